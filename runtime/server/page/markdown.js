// The Markdown that models write, as elements. Text never becomes markup: everything is made with
// createElement and text nodes, and links lead to the web only.

function element(name, text, ...classes) {
  const e = document.createElement(name);
  if (text) e.textContent = text;
  if (classes.length) e.classList.add(...classes);
  return e;
}

// Code first, since nothing inside it means anything.
const INLINE = /(`+)([^`]|[^`].*?[^`])\1(?!`)|\*\*(?=\S)(.+?)\*\*|__(?=\S)(.+?)__|\*(?=\S)([^*]+?)\*|(?<!\w)_(?=\S)([^_]+?)_(?!\w)|~~(.+?)~~|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"])/s;

function addInline(parent, text) {
  for (let found; text && (found = INLINE.exec(text)); text = text.slice(found.index + found[0].length)) {
    parent.append(text.slice(0, found.index));
    const [, , code, bold, bold2, slanted, slanted2, struck, label, url, bare] = found;
    if (code !== undefined) {
      parent.append(element('code', code));
    } else if (url ?? bare) {
      const link = element('a');
      link.href = url ?? bare;
      link.rel = 'noopener noreferrer';
      link.target = '_blank';
      if (label) addInline(link, label); else link.textContent = bare;
      parent.append(link);
    } else {
      const name = bold ?? bold2 ? 'strong' : slanted ?? slanted2 ? 'em' : 's';
      const inner = element(name);
      addInline(inner, bold ?? bold2 ?? slanted ?? slanted2 ?? struck);
      parent.append(inner);
    }
  }
  parent.append(text);
}

function codeBlock(text) {
  const box = element('div', '', 'block'), copy = element('button', 'Copy', 'quiet'), pre = element('pre');
  pre.tabIndex = 0;
  pre.append(element('code', text));
  copy.type = 'button';
  copy.onclick = () => copyText(text, copy);
  box.append(pre, copy);
  return box;
}

async function copyText(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    button.textContent = 'Not allowed';
  }
  setTimeout(() => { button.textContent = label; }, 1200);
}

const cells = line => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map(c => c.trim());
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

// Items of one list, deeper ones inside the item above them.
function addList(parent, lines, at) {
  const indent = ITEM.exec(lines[at])[1].length, isOrdered = /\d/.test(ITEM.exec(lines[at])[2]);
  const list = element(isOrdered ? 'ol' : 'ul');
  if (isOrdered) list.start = parseInt(ITEM.exec(lines[at])[2], 10);
  let item;
  for (; at < lines.length && lines[at].trim(); ++at) {
    const found = ITEM.exec(lines[at]);
    if (found && found[1].length < indent) break;
    if (found && found[1].length >= indent + 2 && item && parent.depth < 8) {
      item.depth = (parent.depth ?? 0) + 1;
      at = addList(item, lines, at) - 1;
    } else if (found) {
      item = element('li');
      addInline(item, found[3]);
      list.append(item);
    } else {
      addInline(item, '\n' + lines[at].trim());
    }
  }
  parent.append(list);
  return at;
}

function addTable(parent, lines, at) {
  const table = element('table'), head = table.createTHead().insertRow();
  for (const cell of cells(lines[at])) {
    const th = element('th');
    addInline(th, cell);
    head.append(th);
  }
  const body = table.createTBody();
  for (at += 2; at < lines.length && lines[at].includes('|'); ++at) {
    const row = body.insertRow();
    for (const cell of cells(lines[at])) addInline(row.insertCell(), cell);
  }
  parent.append(table);
  return at;
}

// Replaces what `parent` holds.
function showMarkdown(parent, text) {
  parent.replaceChildren();
  parent.depth = 0;
  const lines = text.split('\n');
  const special = /^\s*(```|~~~|#{1,6}\s|>)/;
  for (let at = 0; at < lines.length;) {
    const line = lines[at];
    const fence = /^\s*(```+|~~~+)/.exec(line), heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (!line.trim()) {
      ++at;
    } else if (fence) {
      let end = at + 1;
      while (end < lines.length && !lines[end].trim().startsWith(fence[1])) ++end;
      parent.append(codeBlock(lines.slice(at + 1, end).join('\n')));
      at = end + 1;
    } else if (heading) {
      addInline(parent.appendChild(element('h' + Math.max(3, Math.min(4, heading[1].length + 2)))), heading[2]);
      ++at;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      parent.append(element('hr'));
      ++at;
    } else if (/^\s*>/.test(line)) {
      const quote = parent.appendChild(element('blockquote')), start = at;
      while (at < lines.length && /^\s*>/.test(lines[at])) ++at;
      addInline(quote, lines.slice(start, at).map(l => l.replace(/^\s*>\s?/, '')).join('\n'));
    } else if (ITEM.test(line)) {
      at = addList(parent, lines, at);
    } else if (line.includes('|') && /^[\s|:-]*-[\s|:-]*$/.test(lines[at + 1] ?? '') && (lines[at + 1] ?? '').includes('|')) {
      at = addTable(parent, lines, at);
    } else {
      const paragraph = parent.appendChild(element('p')), start = at;
      do ++at; while (at < lines.length && lines[at].trim() && !special.test(lines[at]) && !ITEM.test(lines[at]));
      addInline(paragraph, lines.slice(start, at).join('\n'));
      paragraph.style.whiteSpace = 'pre-line';
    }
  }
}
