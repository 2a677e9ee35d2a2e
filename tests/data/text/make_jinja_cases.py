"""Renders the cases below with jinja2, set up as transformers does, into jinja_cases.json.

Run it by hand when cases are added: python3 make_jinja_cases.py. The versions used are recorded in
the file. The chat templates here are our own, in the style of the families' official ones.
"""
import json
import os
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                    extensions=[Generation, jinja2.ext.loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception

CONTEXT = {
    "s": "Hello, World", "u": "naïve Straße ÀÉ 日本 🙂", "blank": " \t x\n ", "empty": "",
    "n": 7, "z": 0, "neg": -7, "f": 2.5, "big": 1e16, "tiny": 0.00001, "third": 0.1, "yes": True,
    "no": False, "nothing": None, "list": [3, 1, 2], "words": ["b", "A", "c", "a"],
    "mixed": [1, "a", None, True, 2.0, [1], {"k": "v"}],
    "d": {"b": 1, "A": 2, "c": {"x": [1, {"y": "z"}]}},
    "quotes": ["it's", 'say "x"', "both ' and \"", "tab\t", "\x00\x7f\u00ad\u200b\U000e0001"],
    "people": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25},
               {"name": "Cy", "age": 30, "tags": []}],
    "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}],
}

# Each is rendered as {{ expression }}.
EXPRESSIONS = """
s
u
n + 2 * 3 - 4
neg // 2
neg % 3
7 / 2
6 / 2
2 ** 10
2 ** -1
-2 ** 2
1.5 // 0.4
-1.5 % 1
1e3
1_000
big
tiny
third + 0.2
1e22
123456789.123
100000000000000000.0
5 // 2.0
f * 2
true
none
[1, 'a', none, true, 2.0]
(1,)
()
{'a': 1, 2: 'b', 'c': [none]}
mixed
d
quotes
'it\\'s' ~ "\\n\\x41\\u00e9" ~ 'a' 'b'
1 ~ 2 ~ none
'a' if yes else 'b'
'a' if no
('a' if no) is undefined
missing
missing.x
missing + 1
missing is defined or missing is undefined
missing|default('d') ~ ''|default('e') ~ ''|default('e', true)
nothing|default('x') ~ nothing|d('x', true)
not yes or no and yes
yes and 'value'
z or 'other'
1 < 2 < 3 and not 3 < 2 < 1
1 == 1.0 and true == 1 and 'a' != 'b' and [1] == [1] and (1,) != [1]
1 in list and 'ell' in s and 'A' in d and 9 not in list
'a' < 'b' and [1, 2] < [1, 3]
1 < 'a'
s[0] ~ s[-1] ~ s[7:] ~ s[:5] ~ s[::-1] ~ s[1:8:3]
u[::-1]
list[1:] ~ list[::-1] ~ list[-2:] ~ list[5:] ~ list[-1]
list[9] is defined
d.c.x[1].y ~ d['c']['x'][0] ~ d.get('q') ~ d.get('q', 5) ~ d.c['x'].0
d.items()|list
d.keys()|list ~ d.values()|list
d|items|list
s.upper() ~ s.lower() ~ s.title() ~ s.swap
u.upper() ~ u.lower() ~ u.title() ~ u.capitalize()
blank.strip() ~ '|' ~ blank.lstrip() ~ '|' ~ blank.rstrip() ~ '|' ~ 'xxaxx'.strip('x') ~ 'abc'.rstrip('bc')
'a,b,,c'.split(',') ~ ' a  b '.split() ~ 'a b c'.split(' ', 1) ~ 'a b c'.rsplit(' ', 1) ~ ''.split() ~ ''.split(',')
'a\\nb\\r\\nc\\n'.splitlines()
s.startswith('He') and s.endswith(('x', 'ld')) and not s.startswith('W')
s.replace('l', 'L') ~ s.replace('l', '', 1) ~ 'abc'.replace('', '-')
s.find('o') ~ s.find('q') ~ s.rfind('o') ~ s.count('l') ~ ', '.join(words)
'5'.isdigit() ~ ''.isdigit() ~ 'a'.isalpha() ~ 'A1'.isalnum() ~ ' '.isspace() ~ 'AB'.isupper()
'{} and {name} {}'.format('x', 2, name='y') ~ '{1}{0}'.format('a', 'b') ~ '{{}}'.format()
'x'.center(6, '*') ~ 'x'.ljust(3) ~ '|' ~ 'x'.rjust(3) ~ '7'.zfill(3) ~ 'ab'.center(5, '.')
'abc'.removeprefix('a').removesuffix('c')
'%s is %d and %.2f, %5.1f|%-4s|%04d%%' % ('a', 3, 2.345, 1.25, 'b', 42)
'%s' % 'x' ~ '%r' % 'x'
'%s %s'|format('a', 1)
list|length ~ s|length ~ d|count ~ missing|length ~ u|length
5|length
words|sort ~ words|sort(reverse=true) ~ words|sort(case_sensitive=true)
people|sort(attribute='age')|map(attribute='name')|list
people|sort(attribute='age,name', reverse=true)|map(attribute='name')|join(', ')
people|map(attribute='tags', default='none')|list
people|selectattr('tags')|map(attribute='name')|list
people|selectattr('age', 'equalto', 30)|list|length ~ people|rejectattr('age', '>', 26)|map(attribute='name')|first
people|selectattr('tags', 'defined')|map(attribute='name')|join
people|sum(attribute='age') ~ [1, 2.5]|sum ~ []|sum
list|map('string')|join('-') ~ words|map('upper')|list ~ ['1', 'x']|map('int', 9)|list
range(5)|select('odd')|list ~ range(5)|reject('even')|list ~ [0, 1, '']|select|list
words|unique|list ~ [1, 1.0, true, 2]|unique|list
list|max ~ list|min ~ words|max ~ people|max(attribute='age')
list|first ~ list|last ~ []|first ~ 'abc'|first ~ 'abc'|last
list|reverse|list ~ 'abc'|reverse
'abc'|list ~ d|list
d|dictsort
d|dictsort(true) ~ {'a': 2, 'b': 1}|dictsort(by='value') ~ {'a': 2, 'b': 1}|dictsort(reverse=true)
d|tojson ~ u|tojson ~ quotes|tojson
d|tojson(indent=2)
d|tojson(indent=4, sort_keys=true)
d|tojson(separators=(',', ':')) ~ u|tojson(ensure_ascii=true) ~ []|tojson(indent=2) ~ {}|tojson
mixed|tojson ~ big|tojson ~ third|tojson ~ 1.0|tojson
missing|tojson
'a\\n\\nb\\n'|indent ~ '|' ~ 'a\\nb'|indent(2, true) ~ '|' ~ 'a\\n\\nb'|indent(1, blank=true) ~ 'a\\nb'|indent('> ')
s|title ~ 'foo-bar (baz) [q] {r} <t> x_y don\\'t'|title ~ 'HELLO wORLD'|capitalize
blank|trim ~ 'xxax'|trim('x') ~ 5|trim ~ s|upper ~ s|lower
'<a href="x">\\'&'|e ~ '<'|escape ~ 'x'|safe
'12'|int + 1 ~ ' 3 '|int ~ 'x'|int ~ 'x'|int(7) ~ '3.9'|int ~ 3.9|int ~ '0x1f'|int(0, 16) ~ 'ff'|int(base=16) ~ true|int
'1.5'|float ~ 'x'|float ~ 3|float ~ 'x'|float(1.5)
2.5|round ~ 3.5|round ~ 2.675|round(2) ~ 7|round ~ 2.1|round(0, 'ceil') ~ 2.19|round(1, 'floor') ~ 2.5|round|int
-5|abs ~ (-5)|abs ~ (-2.5)|abs
[1, 2, 3, 4, 5]|batch(2)|list ~ [1, 2, 3]|batch(2, 0)|list
'abc'|replace('b', 'x') ~ 'aaa'|replace('a', 'b', 2)
5|string + 'x'
range(3)|list ~ range(2, 8, 3)|list ~ range(3, 0, -1)|list
dict(a=1, b='x') ~ dict({'q': 1}, z=2)
n is odd and n is not even and n is divisibleby 7 and n is divisibleby(7)
n is number and n is integer and f is float and s is string and yes is boolean and nothing is none
yes is number and yes is not integer and d is mapping and list is sequence and s is iterable and missing is iterable
yes is true and no is false and n is not true and 1 is eq 1 and 2 is gt(1) and 'a' is in ['a']
'ab' is lower and 'AB' is upper and range is callable and 'x' is sameas 'x'
n is defined and n is not none
not n is none
s|length > 3 and s|length is odd
[1, 2] + [3] ~ [0] * 3 ~ 'ab' * 2 ~ (1,) + (2,)
1 + 'a'
'a' + 1
none + 1
1 / 0
5 % 0
s.nope()
d.nope.deeper
nope()
(list|join(', '))|upper
1 if n == 7 else 2 if n == 8 else 3
[x for x in list]
{'a': [1, 2]}['a'][1]
s.__class__
list.append(1)
loop
'' ~ messages[-1]['content'] ~ messages[0].role
messages|map(attribute='content')|list
messages[::-1]|map(attribute='role')|join(' ')
"\\t'" ~ '\\d' ~ '\\\\'
1.0 ~ 1e-7 ~ 0.1 ~ 1e15 ~ 12345678901234567.0 ~ -0.0
raise_exception('stop')
""".strip("\n").split("\n")

TEMPLATES = [
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "  {% if yes %}  x  {% endif %}  \n  y\n\n",
    "a {%- if yes -%}  x  {%- endif -%} b",
    "a  {%+ if yes %}\nx{% endif +%}\nb",
    "  {{ s }}  \n  {{- s -}}  \n.",
    "x {# comment #}\ny\n   {# one #}\nz {#- two -#} w",
    "{% raw %}{{ not }} {% this %}{% endraw %}\nq {%- raw -%}  a  {%- endraw -%}  b",
    "   {% raw %}\n x {% endraw %}\n",
    "line\r\nline2\rline3{{ 1 }}\n\n",
    "{% for i in [] %}x{% else %}none{% endfor %}",
    "{% for i in list %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for i in list %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }} {% endfor %}",
    "{% for i in list %}[{{ loop.previtem }}|{{ i }}|{{ loop.nextitem }}]{% if loop.previtem is defined %}p{% endif %}{% endfor %}",
    "{% for i in list if i > 1 %}{{ i }}{{ loop.length }}{% else %}x{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
    "{% for a, b in [[1, 2], (3, 4)] %}{{ a + b }} {% endfor %}",
    "{% for c in 'héy' %}{{ c }}.{% endfor %}{% for x in missing %}never{% endfor %}",
    "{% for x in none %}{% endfor %}",
    "{% for x in 5 %}{% endfor %}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in range(2) %}{% for j in range(2) %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}\n{% endfor %}",
    "{% for i in list %}{{ loop.cycle('odd', 'even') }} {% endfor %}",
    "{% set x = 1 %}{% for i in list %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 1 %}{% if yes %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% set a, b = 1, [2] %}{{ a }}{{ b }}{% set (c, e) = 'xy' %}{{ c }}{{ e }}",
    "{% set ns = namespace(n=0, found=false) %}{% for i in list %}{% set ns.n = ns.n + i %}{% set ns.found = true %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ ns.missing is defined }}",
    "{% set d.x = 1 %}",
    "{% set x %}  block {{ n }}\n{% endset %}[{{ x }}]{% set y | upper | trim %} abc {% endset %}[{{ y }}]",
    "{% macro m(a, b=2, c='x') %}({{ a }},{{ b }},{{ c }}){% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=5, a=4) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=2) }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 'late' %}{{ m() }}{{ m()|length }}",
    "{% macro deep(v) %}{% if v is mapping %}{ {%- for k in v|dictsort %}{{ k[0] }}:{{ deep(k[1]) }}{{ ',' if not loop.last }}{% endfor -%} }{% elif v is string %}\"{{ v }}\"{% elif v is iterable %}[{% for x in v %}{{ deep(x) }};{% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{{ deep(d) }}",
    "{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call box('b') %}in {{ n }}{% endcall %}",
    "{% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) each(list) %}[{{ i }}]{% endcall %}",
    "{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | trim %}  banana {% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
    "{% generation %}said {{ n }}{% endgeneration %}!\n{% generation %}\nx\n{% endgeneration %}\ny",
    "{% if n > 5 and s %}A{% elif n %}B{% else %}C{% endif %}{% if z %}D{% elif nothing %}E{% else %}F{% endif %}",
    "{% if messages[0]['role'] == 'system' %}S{% else %}U{% endif %}{{ messages[1:]|length }}",
    "{{ 1 }}{{ 2 -}}   {{ 3 }}   {{- 4 }}",
    "{{ {'a': {'b': 1}}['a']['b'] }}{{ {} }}{{ {'a': 1,} }}{{ [1,] }}",
    "{% if %}",
    "{{ 1 + }}",
    "{% endif %}",
    "{% for x in list %}",
    "{{ 'unfinished }}",
    "{% unknown %}",
    "{{ a b }}",
    "{% if x = 1 %}{% endif %}",
    "{{ foo(a=1, 2) }}",
]

# In the style of Llama 3: header tokens, a system turn with tools, calls as JSON.
LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# In the style of Qwen3: ChatML, tools in XML tags, thoughts kept after the last question only.
QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(looking=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.looking and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.looking = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and thought)) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or (loop.nextitem.role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# In the style of Gemma 3: roles must alternate, the system text goes into the first turn.
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set first = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("bad content") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
"""

# In the style of Gemma 4: macros over dictsort, tool responses folded into the model's turn.
GEMMA4 = """{%- macro argument(v) -%}
    {%- if v is string -%}
        {{- '<|"|>' + v + '<|"|>' -}}
    {%- elif v is boolean -%}
        {{- 'true' if v else 'false' -}}
    {%- elif v is none -%}
        {{- 'null' -}}
    {%- elif v is mapping -%}
        {{- '{' -}}
        {%- set ns = namespace(first=true) -%}
        {%- for key, value in v | dictsort -%}
            {%- if not ns.first %},{% endif -%}
            {%- set ns.first = false -%}
            {{- key -}}:{{- argument(value) -}}
        {%- endfor -%}
        {{- '}' -}}
    {%- elif v is sequence -%}
        {{- '[' -}}{%- for x in v -%}{{- argument(x) -}}{%- if not loop.last %},{% endif -%}{%- endfor -%}{{- ']' -}}
    {%- else -%}
        {{- v -}}
    {%- endif -%}
{%- endmacro -%}
{%- macro parameters(properties, required=[]) -%}
    {%- for key, value in properties | dictsort -%}
        {{- key }}:{description:{{ argument(value['description']) }}
        {%- if value['type'] | upper == 'STRING' and value['enum'] -%}
            ,enum:{{ argument(value['enum']) }}
        {%- elif value['type'] | upper == 'ARRAY' and value['items'] is mapping -%}
            ,items:{type:{{ argument(value['items']['type'] | upper) }}}
        {%- endif -%}
        {%- if value.get('nullable') -%},nullable:true{%- endif -%}
        ,type:{{ argument(value['type'] | upper) }}}
        {%- if not loop.last %},{% endif -%}
    {%- endfor -%}
{%- endmacro -%}
{%- macro strip_thoughts(text) -%}
    {%- set ns = namespace(result='') -%}
    {%- for part in text.split('<channel|>') -%}
        {%- if '<|channel>' in part -%}
            {%- set ns.result = ns.result + part.split('<|channel>')[0] -%}
        {%- else -%}
            {%- set ns.result = ns.result + part -%}
        {%- endif -%}
    {%- endfor -%}
    {{- ns.result | trim -}}
{%- endmacro -%}
{{- bos_token -}}
{%- set rest = messages -%}
{%- if enable_thinking or tools or messages[0]['role'] in ['system', 'developer'] -%}
    {{- '<|turn>system\\n' -}}
    {%- if enable_thinking is defined and enable_thinking -%}{{- '<|think|>\\n' -}}{%- endif -%}
    {%- if messages[0]['role'] in ['system', 'developer'] -%}
        {{- messages[0]['content'] | trim -}}
        {%- set rest = messages[1:] -%}
    {%- endif -%}
    {%- for tool in tools or [] -%}
        {%- set f = tool['function'] -%}
        {{- '<|tool>declaration:' + f['name'] + '{description:' + argument(f['description']) -}}
        {%- if f.parameters -%}
            ,parameters:{properties:{ {{- parameters(f['parameters']['properties']) -}} },required:{{- argument(f['parameters']['required']) -}},type:{{- argument('OBJECT') -}} }
        {%- endif -%}
        {{- '}<tool|>' -}}
    {%- endfor -%}
    {{- '<turn|>\\n' -}}
{%- endif -%}
{%- set state = namespace(open=false, names={}) -%}
{%- for m in rest -%}
    {%- if m['role'] == 'tool' -%}
        {{- '<|tool_response>response:' + (m.get('name') or 'unknown') -}}
        {%- if m['content'] is string -%}{{- argument({'value': m['content']}) -}}{%- else -%}{{- argument(m['content']) -}}{%- endif -%}
        {{- '<tool_response|>' -}}
    {%- else -%}
        {%- if state.open and m['role'] != 'assistant' -%}{{- '<turn|>\\n' -}}{%- set state.open = false -%}{%- endif -%}
        {%- if not state.open -%}{{- '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' -}}{%- endif -%}
        {%- for call in m.get('tool_calls', []) -%}
            {{- '<|tool_call>call:' + call['function']['name'] + argument(call['function']['arguments']) + '<tool_call|>' -}}
        {%- endfor -%}
        {%- if m['content'] -%}{{- strip_thoughts(m['content']) if m['role'] == 'assistant' else m['content'] | trim -}}{%- endif -%}
        {%- if m.get('tool_calls') -%}{%- set state.open = true -%}{%- else -%}{{- '<turn|>\\n' -}}{%- set state.open = false -%}{%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not state.open -%}{{- '<|turn>model\\n' -}}{%- endif -%}
"""

TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a \"place\" – now",
    "parameters": {"type": "object", "properties": {
        "unit": {"type": "string", "description": "Unit", "enum": ["c", "f"]},
        "city": {"type": "string", "description": "City"},
        "days": {"type": "array", "description": "Days", "items": {"type": "integer"},
                 "nullable": True}}, "required": ["city"]}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {
    "name": "get_weather",
    "arguments": {"unit": "c", "city": "Paris, \"FR\"", "Days": [1, 2], "x": 1.5, "deep": {"ok": True, "z": None}}}}]}
CHATS = [
    {"messages": [{"role": "user", "content": "  Hi there \n"}]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"},
                  {"role": "assistant", "content": "<think>\nadd\n</think>\n\n4"},
                  {"role": "user", "content": "ünd 3+3?"}]},
    {"messages": [{"role": "user", "content": "Weather?"}, CALL,
                  {"role": "tool", "name": "get_weather", "content": "{\"temp\": 21}"},
                  {"role": "assistant", "content": "<|channel>thought\nx<channel|>It is 21."},
                  {"role": "user", "content": "Thanks"}], "tools": TOOLS},
    {"messages": [{"role": "user", "content": "Weather?"}, CALL,
                  {"role": "tool", "name": "get_weather", "content": "a"},
                  {"role": "tool", "content": "b"}], "tools": TOOLS, "enable_thinking": True},
    {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
     "enable_thinking": False},
    {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What? "}]}]},
]


def main():
    cases, contexts = [], []

    def add(template, context):
        if context not in contexts:
            contexts.append(context)
        case = {"template": template, "context": contexts.index(context)}
        try:
            case["text"] = env.from_string(template).render(**context)
        except Exception as e:  # any refusal is a refusal
            case["error"] = type(e).__name__ + ": " + str(e)
        cases.append(case)

    for expression in EXPRESSIONS:
        add("{{ " + expression + " }}", CONTEXT)
    for template in TEMPLATES:
        add(template, CONTEXT)
    for template in (LLAMA, QWEN, GEMMA3, GEMMA4):
        for chat in CHATS:
            for prompt in (True, False):
                add(template, {"tools": None, "bos_token": "<bos>", "date_string": "26 Jul 2024",
                               "add_generation_prompt": prompt, **chat})
    out = {"made_with": f"make_jinja_cases.py, jinja2 {jinja2.__version__}, "
                        f"python {sys.version.split()[0]}", "contexts": contexts, "cases": cases}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jinja_cases.json")
    with open(path, "w") as f:
        json.dump(out, f, ensure_ascii=True, indent=None, separators=(",", ":"))
        f.write("\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")


main()
