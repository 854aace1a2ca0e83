// The console without this works. This adds keys, what changes meanwhile, times in the reader's zone, and checking a proof.

const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

// ---- times

const units = [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']];
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'always', style: 'short' });

function showTimes() {
  for (const time of $$('time[datetime]')) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    const full = at.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
    time.title = `${full} (${time.dateTime})`;
    if (time.dataset.clock === 'time') {
      time.textContent = at.toLocaleTimeString();
      continue;
    }
    if ('clock' in time.dataset && !('until' in time.dataset)) {
      time.textContent = full;
      continue;
    }
    const seconds = Math.round((at - Date.now()) / 1000);
    const [size, unit] = units.find(([size]) => Math.abs(seconds) >= size) ?? [1, 'second'];
    const words = 'until' in time.dataset && seconds <= 0 ? 'now' : relative.format(Math.trunc(seconds / size), unit);
    time.textContent = 'clock' in time.dataset ? `${at.toLocaleTimeString()} (${words})` : words;
  }
}
showTimes();
setInterval(showTimes, 1000);

// ---- keys

let here = -1;

function go(step) {
  const lines = $$('main [data-line]');
  if (!lines.length) return;
  here = Math.max(0, Math.min(lines.length - 1, here + step));
  lines.forEach((line, at) => line.classList.toggle('here', at === here));
  const target = $('a', lines[here]) ?? lines[here];
  target.focus({ preventScroll: true });
  lines[here].scrollIntoView({ block: 'nearest' });
}

const keys = {
  j: () => go(1),
  k: () => go(-1),
  a: () => $('#approve')?.focus(),
  r: () => $('#reason')?.focus(),
  l: () => $('#closer')?.focus(),
  i: () => location.assign('/console/'),
  h: () => open('halt'),
  '?': () => open('keys'),
};

function open(name) {
  const dialog = $(`dialog#${name}`);
  if (dialog && !dialog.open) dialog.showModal();
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('dialog[open]')) return;
  if (event.target.closest('input, textarea, select')) return;
  const key = keys[event.key];
  if (!key) return;
  event.preventDefault();
  key();
});

for (const opener of $$('[data-open]')) {
  opener.addEventListener('click', (event) => {
    event.preventDefault();
    open(opener.dataset.open);
  });
}

// ---- passkeys: before such a form is sent, the browser makes one, or has one sign what the server asks for

const bytesOf = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const textOf = (buffer) => buffer && btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

async function asked(form) {
  const answer = await fetch(form.dataset.options, { method: 'POST', body: new URLSearchParams(new FormData(form)) });
  if (!answer.headers.get('content-type')?.startsWith('application/json')) throw new Error('Your session has ended, or the page is too old. Reload it.');
  const { origin, sealed, options, message, help } = await answer.json();
  if (!answer.ok) throw new Error([message, help].filter(Boolean).join('; '));
  if (origin !== location.origin) throw new Error(`Passkeys work at ${origin} alone: open this page there. Whoever runs this server sets its address with public_url.`);
  const known = (list) => list.map((one) => ({ ...one, id: bytesOf(one.id) }));
  options.challenge = bytesOf(options.challenge);
  if (options.user) options.user.id = bytesOf(options.user.id);
  if (options.allowCredentials) options.allowCredentials = known(options.allowCredentials);
  if (options.excludeCredentials) options.excludeCredentials = known(options.excludeCredentials);
  return { sealed, options };
}

async function saidBy(kind, publicKey) {
  const made = kind === 'create';
  const credential = await (made ? navigator.credentials.create({ publicKey }) : navigator.credentials.get({ publicKey }));
  const { id, response } = credential;
  const both = { id, client_data: textOf(response.clientDataJSON) };
  if (!made) {
    return { ...both, authenticator_data: textOf(response.authenticatorData), signature: textOf(response.signature), user_handle: textOf(response.userHandle) };
  }
  return { ...both, authenticator_data: textOf(response.getAuthenticatorData()), public_key: textOf(response.getPublicKey()), algorithm: response.getPublicKeyAlgorithm() };
}

const passkeyFaults = {
  NotAllowedError: 'Nothing was done: it was cancelled, or took too long, or this device has no passkey for it.',
  InvalidStateError: 'Nothing was done: this device has a passkey of yours already.',
  SecurityError: 'Nothing was done: this browser makes no passkeys for this address.',
};

async function withPasskey(form) {
  const fault = $('[role=alert]', form);
  fault.hidden = true;
  form.dataset.busy = 'yes';
  try {
    if (!globalThis.PublicKeyCredential) throw new Error('This browser has no passkeys for this address: it must be https, or localhost.');
    const { sealed, options } = await asked(form);
    const said = await saidBy(form.dataset.passkey, options);
    form.elements.sealed.value = sealed;
    form.elements.said.value = JSON.stringify(said);
    form.submit();
  } catch (why) {
    fault.textContent = passkeyFaults[why.name] ?? why.message;
    fault.hidden = false;
    delete form.dataset.busy;
  }
}

document.addEventListener('submit', (event) => {
  const form = event.target;
  if (!form.dataset.passkey || (form.dataset.unless && form.elements[form.dataset.unless].value)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (!form.dataset.busy) withPasskey(form);
}, true);

for (const form of $$('form[data-scripted]')) form.hidden = !globalThis.PublicKeyCredential;

// One press is one answer.
document.addEventListener('submit', (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  if (event.target.method === 'post') event.target.dataset.sent = 'yes';
});

// ---- what changes meanwhile

const list = $('[data-live]');
const page = $('[data-live-page]');
const notify = $('#notify');

function say(text) {
  const news = $('#news');
  if (news) news.textContent = text;
}

function tell(text) {
  if (notify?.checked && globalThis.Notification?.permission === 'granted') {
    new Notification('Countersign', { body: text, tag: 'countersign-waiting' });
  }
}

async function refresh() {
  const before = new Set($$('[data-line]', list).map((line) => line.id));
  const focused = document.activeElement?.closest?.('[data-line]')?.id;
  const answer = await fetch(list.dataset.live, { headers: { accept: 'text/html' } });
  if (!answer.ok || answer.redirected) {
    say('You are signed out, or the server is away. Reload the page.');
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
  list.replaceChildren(...fresh.body.childNodes);
  const lines = $$('[data-line]', list);
  here = lines.findIndex((line) => line.id === focused);
  if (here >= 0) {
    lines[here].classList.add('here');
    $('a', lines[here])?.focus({ preventScroll: true });
  }
  const count = $('[data-lines]', list)?.dataset.count ?? '';
  for (const place of $$('[data-waiting]')) place.textContent = count;
  document.title = document.title.replace(/^\([^)]*\) /, '');
  if (count) document.title = `(${count}) ${document.title}`;
  const fresher = lines.filter((line) => !before.has(line.id)).length;
  if (fresher) {
    const text = fresher === 1 ? 'A request waits for you.' : `${fresher} requests wait for you.`;
    say(text);
    tell(text);
  }
  showTimes();
}

function changed() {
  if (list) refresh().catch(() => say('The server is away. This page goes on when it is back.'));
  if (page) {
    // What somebody is writing is not taken away from them.
    const writes = $$('textarea, input:not([type=hidden])', page).some((field) => field.value !== field.defaultValue);
    if (writes) say('Something has changed. Reload to see it; your text would be lost.');
    else reload();
  }
}

let reloading = false;
let again = false;

// Only where the request itself has changed: a page that moves by itself is hard to read.
async function reload() {
  // What changes while the page is fetched is fetched once more.
  again = reloading;
  if (reloading) return;
  reloading = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const state = (from) => $('.state-line .state', from)?.textContent + $$('.pairs dt', from).length;
    if (answer.ok && !answer.redirected && state(fresh) !== state(document)) {
      page.replaceChildren(...($('[data-live-page]', fresh)?.childNodes ?? []));
      showTimes();
      say('The request has changed.');
    }
  } finally {
    reloading = false;
    if (again) reload();
  }
}

// A browser opens six connections to a host: one page listens, and tells the others. Which one is settled by a lock, which
// passes on when its page is closed.
const others = globalThis.BroadcastChannel ? new BroadcastChannel('countersign') : undefined;
let heard = '';

function hear(what) {
  heard = what === 'changed' ? heard : what;
  const live = $('#live');
  const words = { open: 'Live.', away: 'Not connected; trying again.', over: 'Not live. Reload to see what is new.' };
  if (live && words[what]) live.textContent = words[what];
  // What happened while nothing was heard, or before the first word, is looked at now.
  if (what === 'changed' || what === 'open') changed();
}

// Ends a minute after the server has refused to be listened to; another page tries it then, or this one again.
function listen() {
  return new Promise((done) => {
    const events = new EventSource('/console/events');
    const pass = (what) => {
      hear(what);
      others?.postMessage(what);
    };
    const answer = ({ data }) => data === 'how?' && heard && others.postMessage(heard);
    others?.addEventListener('message', answer);
    events.addEventListener('changed', () => pass('changed'));
    events.addEventListener('open', () => pass('open'));
    events.addEventListener('error', () => {
      if (events.readyState !== EventSource.CLOSED) return pass('away');
      pass('over');
      others?.removeEventListener('message', answer);
      setTimeout(done, 60_000);
    });
  });
}

async function listenInTurn() {
  for (;;) await navigator.locks.request('countersign-events', listen);
}

if (list || page) {
  if (others && navigator.locks) {
    others.addEventListener('message', ({ data }) => data !== 'how?' && hear(data));
    listenInTurn();
    others.postMessage('how?');
  } else {
    listen();
  }
}

if (notify) {
  notify.checked = localStorage.getItem('notify') === 'yes' && globalThis.Notification?.permission === 'granted';
  notify.addEventListener('change', async () => {
    if (notify.checked && globalThis.Notification) {
      notify.checked = (await Notification.requestPermission()) === 'granted';
    }
    localStorage.setItem('notify', notify.checked ? 'yes' : 'no');
  });
}

// ---- a one-time link: its token stands behind `#`

const link = $('form[data-link]');
if (link && location.hash.length > 1) {
  link.elements.token.value = location.hash.slice(1);
  history.replaceState(null, '', location.pathname);
  link.requestSubmit();
}

// ---- the proof that an entry is in the log (RFC 6962, C2SP tlog-proof and signed-note), by the browser's own cryptography

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
const sha256 = async (...parts) => {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return new Uint8Array(await crypto.subtle.digest('SHA-256', whole));
};
const equal = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);

async function rootOf(index, size, leaf, path) {
  let [place, last] = [BigInt(index), BigInt(size) - 1n];
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0n) throw new Error('its path is too long');
    if (place & 1n || place === last) {
      hash = await sha256([1], sibling, hash);
      while (!(place & 1n) && place !== 0n) [place, last] = [place >> 1n, last >> 1n];
    } else {
      hash = await sha256([1], hash, sibling);
    }
    [place, last] = [place >> 1n, last >> 1n];
  }
  if (last !== 0n) throw new Error('its path is too short');
  return hash;
}

async function signed(text, signature, name, vkey) {
  const [keyName, keyHash, key] = [vkey.split('+')[0], vkey.split('+')[1], bytes(vkey.split('+').slice(2).join('+'))];
  if (keyName !== name) throw new Error('the checkpoint is of another log');
  const raw = bytes(signature);
  const id = [...raw.slice(0, 4)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  if (id !== keyHash || key[0] !== 1) throw new Error('the checkpoint is signed with another key');
  const imported = await crypto.subtle.importKey('raw', key.slice(1), { name: 'Ed25519' }, false, ['verify']);
  return crypto.subtle.verify({ name: 'Ed25519' }, imported, raw.slice(4), new TextEncoder().encode(text));
}

async function check(proof) {
  const [text, signatures] = proof.checkpoint.split('\n\n');
  const [origin, size, root] = text.split('\n');
  const leaf = await sha256([0], bytes(proof.entry));
  const path = proof.path.map(bytes);
  if (!equal(await rootOf(proof.index, size, leaf, path), bytes(root))) throw new Error('its path leads to another log');
  const line = signatures.split('\n').find((line) => line.startsWith(`— ${origin} `));
  if (!line) throw new Error('the checkpoint is not signed by the log');
  if (!(await signed(`${text}\n`, line.split(' ')[2], origin, proof.vkey))) throw new Error('the signature does not hold');
  return `Proved here: this very entry is number ${proof.index} of the ${size} that ${origin} has signed for.`;
}

const proof = $('[data-proof]');
if (proof) {
  check(JSON.parse(proof.dataset.proof)).then(
    (text) => { proof.textContent = text; proof.classList.add('good'); },
    (why) => { proof.textContent = `NOT proved: ${why.message}`; proof.classList.add('bad'); },
  );
}
