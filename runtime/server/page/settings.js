// What the user chose, kept in this browser; the API key only until the tab is closed.

const EXAMPLE_TOOLS = [{
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Get the weather of a city',
    parameters: {
      type: 'object',
      properties: {
        city: {type: 'string', description: 'City'},
        unit: {type: 'string', enum: ['celsius', 'fahrenheit'], description: 'Unit'},
      },
      required: ['city', 'unit'],
    },
  },
}];

const dialog = document.getElementById('settings'), fields = dialog.querySelector('form').elements;
const NAMES = ['system', 'temperature', 'top_p', 'max_tokens', 'seed', 'thinking', 'choice', 'tools'];
const stored = (storage, name) => {
  try { return JSON.parse(storage.getItem(name)); } catch { return null; }
};
const store = (storage, name, value) => {
  try { storage.setItem(name, JSON.stringify(value)); } catch { /* private windows may refuse */ }
};

function loadSettings() {
  const saved = stored(localStorage, 'lapidary.settings') ?? {};
  for (const name of NAMES) if (typeof saved[name] === 'string') fields[name].value = saved[name];
  fields.key.value = stored(sessionStorage, 'lapidary.key') ?? '';
}

function saveSettings() {
  store(localStorage, 'lapidary.settings', Object.fromEntries(NAMES.map(n => [n, fields[n].value])));
  store(sessionStorage, 'lapidary.key', fields.key.value);
}

// The declared tools, or null when there are none; throws for what is no array.
function toolsOf(text) {
  if (!text.trim()) return null;
  const tools = JSON.parse(text);
  if (!Array.isArray(tools)) throw new Error('expected a JSON array');
  return tools.length ? tools : null;
}

function headers() {
  const all = {'Content-Type': 'application/json'};
  if (fields.key.value) all.Authorization = 'Bearer ' + fields.key.value;
  return all;
}

// The body of a request, all but its messages.
function requestBody(model) {
  const body = {model, stream: true, stream_options: {include_usage: true}};
  for (const name of ['temperature', 'top_p', 'seed'])
    if (fields[name].value !== '') body[name] = Number(fields[name].value);
  if (fields.max_tokens.value) body.max_completion_tokens = Number(fields.max_tokens.value);
  if (fields.thinking.value)
    body.chat_template_kwargs = {enable_thinking: fields.thinking.value === 'on'};
  const tools = toolsOf(fields.tools.value);
  if (tools && fields.choice.value !== 'none') {
    body.tools = tools;
    body.tool_choice = fields.choice.value;
  }
  return body;
}

function checkTools() {
  const where = document.getElementById('tools-error');
  try {
    toolsOf(fields.tools.value);
    where.textContent = '';
  } catch (e) {
    where.textContent = 'Tools: ' + e.message;
  }
  fields.tools.setAttribute('aria-invalid', where.textContent !== '');
  return !where.textContent;
}

function prepareSettings() {
  loadSettings();
  document.getElementById('open-settings').onclick = () => dialog.showModal();
  document.getElementById('example-tools').onclick = () => {
    fields.tools.value = JSON.stringify(EXAMPLE_TOOLS, null, 2);
    checkTools();
  };
  fields.tools.oninput = checkTools;
  dialog.onclose = saveSettings;
  dialog.querySelector('form').onsubmit = e => { if (!checkTools()) e.preventDefault(); };

  // Light, dark, or as the system has it.
  const root = document.documentElement, isDark = matchMedia('(prefers-color-scheme: dark)');
  const theme = stored(localStorage, 'lapidary.theme');
  if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  document.getElementById('theme').onclick = () => {
    const now = root.dataset.theme ?? (isDark.matches ? 'dark' : 'light');
    root.dataset.theme = now === 'dark' ? 'light' : 'dark';
    store(localStorage, 'lapidary.theme', root.dataset.theme);
  };
}
