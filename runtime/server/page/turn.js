// One answer on the page: its thought, text, calls, and what it cost.

class Turn {
  constructor(chat) {
    this.root = element('article', '', 'turn', 'model');
    this.root.setAttribute('aria-label', 'Answer');
    this.text = element('div', '', 'text', 'waiting');
    this.calls = element('div');
    this.tail = element('div', '', 'tail');
    this.root.append(this.text, this.calls, this.tail);
    chat.append(this.root);
    this.message = {role: 'assistant', content: ''};
    this.began = performance.now();
  }

  // A delta of the stream.
  add(delta) {
    const thought = delta.reasoning_content ?? delta.reasoning;
    if (thought || delta.content || delta.tool_calls) this.first ??= performance.now();
    if (thought) this.message.reasoning_content = (this.message.reasoning_content ?? '') + thought;
    if (delta.content) this.message.content += delta.content;
    for (const call of delta.tool_calls ?? []) {
      const calls = this.message.tool_calls ??= [];
      const known = calls[call.index] ??= {id: '', type: 'function', function: {name: '', arguments: ''}};
      if (call.id) known.id = call.id;
      known.function.name += call.function?.name ?? '';
      known.function.arguments += call.function?.arguments ?? '';
    }
    this.scheduled ??= requestAnimationFrame(() => this.show());
  }

  show() {
    this.scheduled = undefined;
    const {content, reasoning_content, tool_calls} = this.message;
    if (reasoning_content) this.showThought(reasoning_content, content || tool_calls);
    if (content) {
      this.text.classList.remove('waiting');
      showMarkdown(this.text, content);
    }
    if (tool_calls) this.text.classList.remove('waiting');
    tool_calls?.forEach((call, i) => this.showCall(call, i));
    this.onShown?.();
  }

  showThought(thought, isOver) {
    if (!this.thought) {
      this.thought = element('details', '', 'thought');
      this.thought.append(element('summary', 'Thinking'), element('div', '', 'inside'));
      this.root.prepend(this.thought);
    }
    this.thought.lastChild.textContent = thought;
    if (isOver && !this.thoughtEnd) {
      this.thoughtEnd = performance.now();
      const seconds = (this.thoughtEnd - this.began) / 1000;
      this.thought.firstChild.textContent = `Thought for ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
    }
  }

  showCall(call, i) {
    let card = this.calls.children[i];
    if (!card) {
      card = element('section', '', 'call');
      const head = element('div', '', 'head');
      head.append(element('b'), element('span', 'wants to be called'));
      card.append(head, element('pre'));
      card.lastChild.tabIndex = 0;
      this.calls.append(card);
    }
    card.setAttribute('aria-label', 'Call of ' + call.function.name);
    card.querySelector('b').textContent = call.function.name;
    let text = call.function.arguments;
    try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* still coming */ }
    card.querySelector('pre').textContent = text;
  }

  // The stream is over. `onResults` gets one tool message per call when the user has given them.
  finish(usage, reason, onResults, onAgain) {
    cancelAnimationFrame(this.scheduled);
    this.show();
    this.text.classList.remove('waiting');
    const {content, tool_calls} = this.message;
    const told = [];
    if (usage) {
      const seconds = (performance.now() - (this.first ?? this.began)) / 1000;
      told.push(`${usage.completion_tokens} tokens`);
      // Of a call, the first tokens come together, when its name is known.
      if (usage.completion_tokens > 1 && seconds > 0.01 && !tool_calls)
        told.push(`${((usage.completion_tokens - 1) / seconds).toFixed(1)} per second`);
      const cached = usage.prompt_tokens_details?.cached_tokens;
      told.push(`prompt ${usage.prompt_tokens}` + (cached ? `, ${cached} cached` : ''));
    }
    if (reason === 'length') told.push('cut at the limit');
    if (reason === 'stopped') told.push('stopped');
    this.tail.append(element('span', told.join(' · ')));
    if (content) this.addButton('Copy', b => copyText(content, b));
    this.addButton('Again', () => onAgain());
    if (tool_calls && reason === 'tool_calls') this.askResults(onResults);
  }

  addButton(label, action) {
    const button = element('button', label, 'quiet');
    button.type = 'button';
    button.onclick = () => action(button);
    this.tail.append(button);
  }

  askResults(onResults) {
    const results = this.message.tool_calls.map((call, i) => {
      const form = element('form', '', 'answer'), label = element('label', 'What ' + call.function.name + ' returns');
      const input = element('textarea');
      input.rows = 1;
      label.append(input);
      form.append(label);
      this.calls.children[i].append(form);
      return {call, form, input};
    });
    const give = () => {
      for (const {form, input} of results) {
        form.lastChild.disabled = input.readOnly = true;
        input.closest('.call').querySelector('.head span').textContent = 'was called';
      }
      onResults(results.map(({call, input}) => ({role: 'tool', tool_call_id: call.id, name: call.function.name, content: input.value})));
    };
    const button = element('button', results.length > 1 ? 'Give all back' : 'Give back', 'main');
    results.at(-1).form.append(button);
    for (const {form, input} of results) {
      form.onsubmit = e => { e.preventDefault(); if (!input.readOnly) give(); };
      input.onkeydown = e => { if (e.key === 'Enter' && !e.shiftKey) { e.preventDefault(); form.requestSubmit(); } };
    }
    results[0].input.focus();
  }

  fail(error, onAgain) {
    this.text.classList.remove('waiting');
    const line = element('p', error.message, 'error');
    line.setAttribute('role', 'alert');
    this.root.insertBefore(line, this.tail);
    this.addButton('Try again', onAgain);
  }

  // Buttons of answers that are not the last would rewrite history.
  close() { this.tail.querySelectorAll('button').forEach(b => { if (b.textContent !== 'Copy') b.remove(); }); }
}
