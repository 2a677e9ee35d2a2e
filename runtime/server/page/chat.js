// The conversation: messages as the API takes them, one request at a time, read as it streams.

const byId = id => document.getElementById(id);
const chat = byId('chat'), say = byId('say'), model = byId('model');
let messages = [], running = null, last = null, tokens = 0;

const IDEAS = ['Explain what a hash table is, in three sentences.', 'Write a haiku about quantization.',
  'What is 408 + 117?', 'What is the weather in Oslo in celsius?'];

async function errorOf(response) {
  const text = await response.text();
  try {
    const error = JSON.parse(text).error;
    return new Error(error?.message ?? text);
  } catch {
    return new Error(`The server answered ${response.status}: ${text.slice(0, 200)}`);
  }
}

// Events of a stream, as parsed JSON.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith('data:')) continue;
      const data = line.slice(5).trim();
      if (data === '[DONE]') return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message ?? 'the answer broke off');
      yield event;
    }
  }
}

const isAtEnd = () => innerHeight + scrollY > document.body.scrollHeight - 120;
const toEnd = () => scrollTo(0, document.body.scrollHeight);

function setRunning(controller) {
  running = controller;
  byId('send').hidden = !!running;
  byId('stop').hidden = !running;
  chat.setAttribute('aria-busy', !!running);
}

// Asks for the answer to `messages` and shows it.
async function answer() {
  last?.close();
  const turn = last = new Turn(chat), mine = messages, asked = mine.length;
  const again = () => {
    if (running) return;
    messages.length = asked;
    turn.root.remove();
    answer();
  };
  setRunning(new AbortController());
  const {signal} = running;
  let follows = true;
  turn.onShown = () => { if (follows) toEnd(); };
  const watch = () => { follows = isAtEnd(); };
  addEventListener('scroll', watch);
  toEnd();
  let usage = null, reason = null;
  try {
    const system = fields.system.value.trim();
    const body = {...requestBody(model.value),
      messages: system ? [{role: 'system', content: system}, ...messages] : messages};
    const response = await fetch('v1/chat/completions',
      {method: 'POST', headers: headers(), body: JSON.stringify(body), signal});
    if (!response.ok) throw await errorOf(response);
    for await (const event of events(response)) {
      usage = event.usage ?? usage;
      const choice = event.choices?.[0];
      if (choice?.delta) turn.add(choice.delta);
      reason = choice?.finish_reason ?? reason;
    }
    if (!reason) throw new Error('The connection was closed before the answer was complete.');
  } catch (e) {
    if (e.name === 'AbortError') {
      reason = 'stopped';
    } else {
      turn.show();
      turn.fail(e instanceof TypeError ? new Error('The server cannot be reached.') : e, again);
    }
  }
  removeEventListener('scroll', watch);
  if (messages !== mine) return;  // a new chat was begun meanwhile
  setRunning(null);
  byId('status').textContent = reason ? 'The answer is complete.' : 'The answer failed.';
  if (reason) {
    // Half a call is no call.
    if (reason !== 'tool_calls') delete turn.message.tool_calls;
    messages.push(turn.message);
    tokens += usage?.completion_tokens ?? 0;
    byId('total').textContent = `${tokens} tokens written` + (usage ? `, ${usage.total_tokens} in context` : '');
    turn.finish(usage, reason, results => {
      messages.push(...results);
      answer();
    }, again);
  }
  if (follows) toEnd();
  if (!document.activeElement || document.activeElement === document.body) say.focus();
}

function send(text) {
  if (running || !text.trim()) return;
  byId('welcome').hidden = true;
  const turn = element('article', '', 'turn', 'user');
  turn.setAttribute('aria-label', 'You');
  turn.append(element('div', text, 'text'));
  chat.append(turn);
  messages.push({role: 'user', content: text});
  say.value = '';
  fit();
  answer();
}

function fit() {
  say.style.height = 'auto';
  say.style.height = say.scrollHeight + 'px';
}

function fresh() {
  running?.abort();
  setRunning(null);
  messages = [];
  last = null;
  tokens = 0;
  chat.replaceChildren();
  byId('total').textContent = '';
  byId('welcome').hidden = false;
  say.focus();
}

async function listModels() {
  try {
    const response = await fetch('v1/models', {headers: headers()});
    if (!response.ok) throw await errorOf(response);
    const names = (await response.json()).data.map(m => m.id), chosen = model.value;
    model.replaceChildren(...names.map(n => new Option(n, n)));
    if (names.includes(chosen)) model.value = chosen;
    byId('welcome-model').textContent = names.length === 1 ? `You are talking to ${names[0]}.` : `${names.length} models are here.`;
  } catch (e) {
    byId('welcome-model').textContent = e.message;
  }
}

prepareSettings();
dialog.addEventListener('close', listModels);
listModels();
for (const idea of IDEAS) {
  const button = element('button', idea);
  button.onclick = () => send(idea);
  byId('ideas').append(button);
}
byId('composer').onsubmit = e => { e.preventDefault(); send(say.value); };
say.oninput = fit;
say.onkeydown = e => {
  if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(say.value); }
};
byId('stop').onclick = () => running?.abort();
byId('fresh').onclick = fresh;
addEventListener('keydown', e => {
  if (e.altKey && e.key.toLowerCase() === 'n') { e.preventDefault(); fresh(); }
  if (e.key === 'Escape' && running && !dialog.open) running.abort();
});
