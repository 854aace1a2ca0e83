// The console, used in Chromium over a real server as people use it. See `run`.
'use strict';

const assert = require('node:assert/strict');
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { chromium } = require('playwright-core');
const axe = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const args = process.argv.slice(2);
const option = (name) => {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? undefined : args.splice(at, 2)[1];
};
const flag = (name) => {
  const at = args.indexOf(`--${name}`);
  return at >= 0 && args.splice(at, 1).length === 1;
};
const binary = path.resolve(option('binary'));
const folder = path.resolve(option('folder'));
const screenshots = flag('screenshots') ? path.resolve('docs/console') : undefined;
const wanted = args;

const PASSWORD = 'correct horse battery staple';

// ---- a server

function freePort() {
  return new Promise((found, failed) => {
    const probe = net.createServer();
    probe.on('error', failed);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => found(port));
    });
  });
}

class Server {
  static async begin(name, change = (text) => text) {
    const server = new Server();
    server.dir = path.join(folder, name);
    fs.rmSync(server.dir, { recursive: true, force: true });
    server.cli('init', server.dir);
    server.port = await freePort();
    const main = path.join(server.dir, 'countersign.toml');
    const text = fs.readFileSync(main, 'utf8').replace('127.0.0.1:7780', `127.0.0.1:${server.port}`);
    fs.writeFileSync(main, change(text));
    server.url = `http://127.0.0.1:${server.port}`;
    // Where the printed link leads.
    server.pages = `http://localhost:${server.port}`;
    await server.start();
    return server;
  }

  cli(...words) {
    const done = spawnSync(binary, words, { encoding: 'utf8' });
    assert.equal(done.status, 0, `countersign ${words.join(' ')}: ${done.stderr}`);
    return done.stdout;
  }

  start() {
    this.log = fs.openSync(path.join(this.dir, 'serve.log'), 'a');
    this.process = spawn(binary, ['serve', '-C', this.dir, '--print-url'], { stdio: ['ignore', 'pipe', this.log] });
    return new Promise((started, failed) => {
      this.process.stdout.once('data', started);
      this.process.once('exit', (code) => failed(new Error(`the server ended with ${code}: see ${this.dir}/serve.log`)));
    });
  }

  stop() {
    return new Promise((stopped) => {
      this.process.removeAllListeners('exit');
      this.process.once('exit', stopped);
      this.process.kill('SIGTERM');
    });
  }

  key(name) {
    return fs.readFileSync(path.join(this.dir, 'keys', `${name}.key`), 'utf8').trim();
  }

  // A one-time link for a person, as the command line prints it.
  link(person = 'alice') {
    const found = /http\S+#\S+/.exec(this.cli('people', 'link', person, '-C', this.dir));
    assert.ok(found, 'a link is printed');
    return found[0];
  }

  async rest(method, route, body, key = 'assistant') {
    const answer = await fetch(this.url + route, {
      method,
      headers: { authorization: `Bearer ${this.key(key)}`, 'content-type': 'application/json' },
      body: body && JSON.stringify(body),
    });
    return answer.json();
  }

  // A call that people are asked about.
  propose(customer = 7, reason = 'clean up', session = 'browser') {
    return this.rest('POST', '/v1/calls', { tool: 'delete_test_invoices', arguments: { customer, _reason: reason }, session });
  }

  result(approval) {
    return this.rest('GET', `/v1/approvals/${approval}/result?wait_ms=20000`);
  }
}

// ---- a person at a browser

let browser;

class Visitor {
  static async come(server, options = {}) {
    const visitor = new Visitor();
    visitor.server = server;
    visitor.context = await browser.newContext({ baseURL: server.pages, locale: 'en-GB', timezoneId: 'UTC', ...options });
    visitor.page = await visitor.context.newPage();
    visitor.complaints = [];
    visitor.page.on('console', (message) => {
      const away = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/.test(message.text());
      const status = /the server responded with a status of 4/.test(message.text());
      if (['error', 'warning'].includes(message.type()) && !away && !status) visitor.complaints.push(message.text());
    });
    visitor.page.on('pageerror', (why) => visitor.complaints.push(String(why)));
    visitor.page.on('dialog', (dialog) => {
      visitor.complaints.push(`a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    return visitor;
  }

  // Follows a one-time link to the inbox.
  async setUp(person = 'alice') {
    await this.page.goto(this.server.link(person));
    await this.page.getByLabel(/^Password/).fill(PASSWORD);
    await this.page.getByLabel('Once more').fill(PASSWORD);
    await this.page.getByRole('button', { name: 'Set it and sign in' }).click();
    await this.page.getByRole('link', { name: 'To the inbox' }).click();
    await this.page.getByRole('heading', { name: 'Inbox' }).waitFor();
    return this;
  }

  async signIn(person = 'alice', password = PASSWORD) {
    await this.page.getByLabel('Name').fill(person);
    await this.page.getByLabel(/^Password/).fill(password);
    await this.page.getByRole('button', { name: 'Sign in', exact: true }).click();
  }

  text() {
    return this.page.locator('body').innerText();
  }

  async sees(...texts) {
    for (const text of texts) await this.page.getByText(text).first().waitFor();
  }

  // No rule of accessibility is broken, in light and in dark.
  async isAccessible(what) {
    for (const colorScheme of ['light', 'dark']) {
      await this.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await this.page.evaluate(`${axe}; 0`);
      const { violations } = await this.page.evaluate(
        () => axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
      const told = violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html}\n  ${node.failureSummary}`));
      assert.deepEqual(told, [], `${what} in ${colorScheme}`);
    }
    await this.page.emulateMedia({ colorScheme: null });
  }

  async photograph(name) {
    if (!screenshots) return;
    for (const [size, viewport] of [['', { width: 1180, height: 800 }], ['-phone', { width: 390, height: 844 }]]) {
      for (const colorScheme of size ? ['dark'] : ['light']) {
        await this.page.setViewportSize(viewport);
        await this.page.emulateMedia({ colorScheme });
        await this.page.screenshot({ path: path.join(screenshots, `${name}${size}.png`), fullPage: !size });
      }
    }
    await this.page.setViewportSize({ width: 1280, height: 720 });
    await this.page.emulateMedia({ colorScheme: null });
  }

  async leave() {
    assert.deepEqual(this.complaints, [], 'the browser complains of nothing');
    await this.context.close();
  }
}

// An authenticator of the browser's own, which says yes for its user.
async function authenticator(visitor) {
  const session = await visitor.context.newCDPSession(visitor.page);
  await session.send('WebAuthn.enable');
  const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true };
  await session.send('WebAuthn.addVirtualAuthenticator', { options });
}

// ---- what is tried

const tries = {};

tries['a link, a password, an inbox that fills while it is open, and an approval by keys alone'] = async (server) => {
  const alice = await Visitor.come(server);
  await alice.page.goto('/');
  await alice.sees('Sign in');
  await alice.isAccessible('the sign-in page');
  await alice.photograph('sign-in');
  await alice.setUp();
  await alice.sees('Nothing waits for you', 'Live.');
  const asked = await server.propose();
  assert.equal(asked.status, 'pending');
  await alice.sees('delete_test_invoices', 'A request waits for you.');
  assert.match(await alice.page.title(), /^\(1\) Inbox/);
  await alice.isAccessible('the inbox');
  await alice.photograph('inbox');
  await alice.page.keyboard.press('j');
  await alice.page.keyboard.press('Enter');
  await alice.sees('Exactly this is performed', 'clean up', 'exactly: ');
  await alice.isAccessible('a request');
  await alice.photograph('request');
  await alice.page.keyboard.press('a');
  await alice.page.keyboard.press('Enter');
  await alice.sees('over console');
  const done = await server.result(asked.approval);
  assert.equal(done.status, 'done', JSON.stringify(done));
  // The page that is open hears of it.
  await alice.page.locator('.state.done').waitFor();
  await alice.leave();
};

tries['a refusal needs a reason, and the reason reaches the agent'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const asked = await server.propose(8);
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.page.keyboard.press('r');
  await alice.page.keyboard.type('only the tests of March, please');
  await alice.page.getByRole('button', { name: /^Refuse/ }).click();
  await alice.page.locator('.state.refused').waitFor();
  const refused = await server.result(asked.approval);
  assert.match(JSON.stringify(refused), /only the tests of March/);
  await alice.leave();
};

tries['a passkey is made by a link, signs in alone, and confirms an approval where a policy wants that'] = async (server) => {
  await server.stop();
  fs.writeFileSync(path.join(server.dir, 'policies', 'careful.cedar'),
    '@id("careful") @ask("approvers") @step_up("passkey") permit (principal, action == Action::"delete_test_invoices", resource);');
  await server.start();
  const alice = await Visitor.come(server);
  const link = server.link();
  // Browsers make no passkeys for an address, and the page says where they do.
  await alice.page.goto(link.replace('localhost', '127.0.0.1'));
  await alice.page.getByRole('button', { name: 'Make a passkey and sign in' }).click();
  await alice.sees('open this page there');
  await authenticator(alice);
  await alice.page.goto(link);
  await alice.isAccessible('the page of a link');
  await alice.page.getByRole('button', { name: 'Make a passkey and sign in' }).click();
  await alice.page.getByRole('link', { name: 'To the inbox' }).click();
  await alice.page.getByRole('button', { name: 'Sign out' }).click();
  await alice.isAccessible('the sign-in page with a passkey');
  await alice.page.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await alice.page.getByRole('heading', { name: 'Inbox' }).waitFor();
  const asked = await server.propose(14);
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.sees('wants this approval confirmed with a passkey');
  await alice.isAccessible('a request that wants a passkey');
  await alice.page.keyboard.press('a');
  await alice.page.keyboard.press('Enter');
  await alice.sees('over console, confirmed with a passkey');
  const done = await server.result(asked.approval);
  assert.equal(done.status, 'done', JSON.stringify(done));
  // A password beside it, confirmed with the passkey; and the passkey removed.
  await alice.page.getByRole('link', { name: 'alice' }).click();
  await alice.sees('my passkey');
  await alice.isAccessible('an account');
  await alice.page.getByLabel(/^The new one/).fill(PASSWORD);
  await alice.page.getByLabel('Once more').fill(PASSWORD);
  await alice.page.getByRole('button', { name: 'Change the password' }).click();
  await alice.sees('The password is changed.');
  await alice.page.getByRole('button', { name: 'Remove my passkey' }).click();
  await alice.sees('The passkey is removed', 'You have none.');
  await alice.page.getByRole('button', { name: 'Sign out' }).click();
  await alice.signIn();
  await alice.page.getByRole('heading', { name: 'Inbox' }).waitFor();
  await alice.leave();
};

tries['two pages race, and the second is told what became of the request'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const asked = await server.propose(9);
  await alice.page.goto(`/console/requests/${asked.approval}`);
  // Nothing tells this page that it is old: it was open for a day in another browser.
  const elsewhere = await Visitor.come(server, { storageState: await alice.context.storageState() });
  const second = elsewhere.page;
  await second.route('**/console/events', (route) => route.abort());
  await second.goto(`/console/requests/${asked.approval}`);
  await alice.page.locator('#approve').click();
  await alice.page.locator('.state.done').waitFor();
  await second.locator('#reason').fill('too late');
  await second.getByRole('button', { name: /^Refuse/ }).click();
  await second.getByText('It does not count').waitFor();
  const calls = await server.rest('GET', '/v1/calls');
  assert.equal(calls.calls.filter((call) => call.approval === asked.approval).length, 1);
  await alice.leave();
};

tries['a grant lets calls like it run until somebody ends it'] = async (server) => {
  await server.stop();
  const policies = path.join(server.dir, 'policies');
  for (const file of fs.readdirSync(policies).filter((name) => name.endsWith('.cedar'))) {
    const text = fs.readFileSync(path.join(policies, file), 'utf8');
    fs.writeFileSync(path.join(policies, file), text.replaceAll('@ask("approvers")', '@ask("approvers")\n@grant("5 calls in 30m")'));
  }
  await server.start();
  const alice = await (await Visitor.come(server)).setUp();
  const asked = await server.propose(7);
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.page.getByText('Grant more calls like it').click();
  await alice.sees('At most 5 calls, in 30 minutes.');
  await alice.isAccessible('a request that can be granted');
  await alice.photograph('grant');
  await alice.page.getByLabel(/^How many calls/).fill('3');
  await alice.page.locator('#approve').click();
  await alice.page.locator('.state.done').waitFor();
  const second = await server.propose(8);
  assert.equal(second.status, 'done', JSON.stringify(second));
  await alice.page.getByRole('link', { name: 'Grants' }).first().click();
  await alice.sees('Each reaches no further than');
  assert.match(await alice.text(), /may make 2 of 3 calls like it/);
  await alice.isAccessible('the grants');
  await alice.page.getByLabel('Why it ends').fill('enough for today');
  await alice.page.getByRole('button', { name: 'End it' }).click();
  await alice.sees('Nothing is granted now.');
  const third = await server.propose(9);
  assert.equal(third.status, 'pending', JSON.stringify(third));
  // The minutes that stand there already are nobody's text: the page that is open goes along with what happens elsewhere.
  await alice.page.goto(`/console/requests/${third.approval}`);
  await alice.page.locator('#approve').waitFor();
  await server.rest('POST', `/v1/approvals/${third.approval}/approve`, {}, 'alice');
  await alice.page.locator('.state.done').waitFor();
  await alice.leave();
};

tries['a call is looked closer at and changed, and those that are alike are answered together'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const asked = await server.propose(7);
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.page.keyboard.press('l');
  await alice.page.keyboard.press('Enter');
  await alice.sees('exactly: it was run and rolled back');
  assert.equal(await alice.page.locator('#closer').count(), 0);
  await alice.page.getByText('Change the call').click();
  await alice.isAccessible('a request whose call can be changed');
  await alice.photograph('change');
  const written = alice.page.getByLabel('Its arguments, as JSON');
  assert.equal((await written.inputValue()).replaceAll(/\s/g, ''), '{"customer":7}');
  await written.fill('{"customer": 8}');
  await alice.page.getByLabel('Why; the agent is told').fill('that one is no test');
  await alice.page.getByRole('button', { name: 'Ask about this instead' }).click();
  await alice.sees('what the agent asked for', 'that one is no test');
  // Whoever wrote it is not the one to approve it.
  await alice.sees('others have to approve it');
  assert.equal(await alice.page.locator('#approve').count(), 0);
  const told = await server.rest('GET', `/v1/approvals/${asked.approval}/result`);
  assert.deepEqual(told.changed, { arguments: { customer: 8 }, because: 'that one is no test' }, JSON.stringify(told));

  const alike = [];
  for (const customer of [9, 10, 11]) alike.push(await server.propose(customer));
  await alice.page.goto(`/console/requests/${alike[0].approval}`);
  await alice.page.getByRole('link', { name: /more like it wait/ }).click();
  await alice.isAccessible('requests that are alike');
  await alice.photograph('alike');
  for (const box of await alice.page.getByRole('checkbox').all()) await box.setChecked(false);
  for (const one of alike.slice(0, 2)) await alice.page.locator(`input[name="${one.approval}"]`).check();
  await alice.page.getByRole('button', { name: 'Approve the ticked' }).click();
  await alice.sees('Approved: 2 of 2');
  for (const one of alike.slice(0, 2)) assert.equal((await server.result(one.approval)).status, 'done');
  assert.equal((await server.rest('GET', `/v1/approvals/${alike[2].approval}/result`)).status, 'pending');
  await alice.leave();
};

tries['it works without a script'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const state = await alice.context.storageState();
  const plain = await Visitor.come(server, { javaScriptEnabled: false, storageState: state });
  const asked = await server.propose(10);
  await plain.page.goto('/console/');
  await plain.page.getByText('delete_test_invoices').first().click();
  await plain.page.locator('#approve').click();
  await plain.page.getByText('over console').waitFor();
  assert.equal((await server.result(asked.approval)).status, 'done');
  await plain.leave();
  await alice.leave();
};

tries['what others wrote is shown and never run'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const evil = '<script>alert(1)</script><img src=x onerror=alert(2)>"\'><svg onload=alert(3)> \u202egnp';
  const asked = await server.propose(11, evil, '"><script>alert(4)</script>');
  for (const page of ['/console/', `/console/requests/${asked.approval}`, '/console/sessions', '/console/log', '/console/requests']) {
    await alice.page.goto(page);
    assert.equal(await alice.page.locator('main script, main img, main svg[onload]').count(), 0, page);
    assert.ok(!(await alice.page.content()).includes('\u202e'), page);
  }
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.sees('<script>alert(1)</script>');
  await alice.page.getByRole('link', { name: 'The whole session' }).click();
  await alice.sees('agent `assistant` asked for');
  await alice.leave();
};

tries['a session that ended answers nothing, and another site can send nothing'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const asked = await server.propose(12);
  await alice.page.goto(`/console/requests/${asked.approval}`);
  const other = await alice.context.newPage();
  await other.goto('/console/');
  await other.getByRole('button', { name: 'Sign out' }).click();
  await other.getByRole('heading', { name: 'Sign in' }).waitFor();
  await alice.page.locator('#approve').click();
  await alice.sees('your session has ended, and nothing was done');
  assert.equal((await server.rest('GET', `/v1/approvals/${asked.approval}`, undefined, 'alice')).state, 'waiting');
  // Signed in anew one comes back to the page that was asked for.
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.signIn();
  await alice.page.waitForURL(`**/console/requests/${asked.approval}`);
  const [cookie] = await alice.context.cookies();
  assert.deepEqual(
    [cookie.name, cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path],
    ['__Host-countersign', true, true, 'Lax', '/']);
  // Another site's form: the browser says where it comes from, and takes the cookie along to no such thing.
  const evil = net.createServer((socket) => {
    socket.on('error', () => {});
    const html = `<form method=post action="${server.pages}/console/requests/${asked.approval}/approve"><input name=form_token value=x>`
      + '<input name=digest value=y></form><script>document.forms[0].submit()</script>';
    socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${html.length}\r\nconnection: close\r\n\r\n${html}`));
  });
  await new Promise((listening) => evil.listen(0, '127.0.0.1', listening));
  const attacker = await alice.context.newPage();
  const answered = attacker.waitForResponse((response) => response.request().method() === 'POST');
  await attacker.goto(`http://127.0.0.1:${evil.address().port}/`).catch(() => {});
  assert.equal((await answered).status(), 403);
  evil.close();
  assert.equal((await server.rest('GET', `/v1/approvals/${asked.approval}`, undefined, 'alice')).state, 'waiting');
  await alice.leave();
};

tries['a server that goes away and comes back is heard of'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  await alice.sees('Live.');
  await server.stop();
  await alice.sees('Not connected; trying again.');
  await server.start();
  const asked = await server.propose(13);
  await alice.sees('Live.');
  await alice.page.locator(`#${asked.approval}`).waitFor();
  await alice.leave();
};

tries['eight pages are open at once, all of them live, and an answer goes through'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const pages = [];
  for (let at = 0; at < 7; at += 1) {
    const page = await alice.context.newPage();
    await page.goto('/console/');
    await page.getByText('Live.').waitFor();
    pages.push(page);
  }
  const asked = await server.propose(16);
  for (const page of pages) await page.locator(`#${asked.approval}`).waitFor();
  // The one that listens goes, and another takes over.
  await alice.page.goto(`/console/requests/${asked.approval}`);
  await alice.page.locator('#approve').click();
  await alice.page.locator('.state.done').waitFor();
  for (const page of pages) await page.getByText('Nothing waits for you').waitFor();
  await alice.leave();
};

tries['the halt switch is two keys away, and an operator ends it'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  await alice.page.keyboard.press('h');
  await alice.page.getByRole('dialog').getByLabel(/^Why/).fill('it does odd things');
  await alice.isAccessible('the halt switch');
  await alice.page.keyboard.press('Enter');
  await alice.sees('Every agent is halted');
  assert.match(JSON.stringify(await server.propose(14)), /halted/);
  await alice.isAccessible('health');
  await alice.page.getByRole('button', { name: 'Let go on' }).click();
  await alice.sees('Nobody is halted.');
  await alice.leave();
};

tries['every page keeps the rules of accessibility, on its own and narrow'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const asked = await server.propose(11);
  await server.rest('POST', `/v1/approvals/${asked.approval}/refuse`, { reason: 'not these' }, 'alice');
  await server.rest('POST', '/v1/calls', { tool: 'customer_invoices', arguments: { customer: 7 }, session: 'browser' });
  for (const page of ['requests', 'requests?state=done', 'sessions', 'session?agent=assistant&session=browser', 'log', 'log/3', 'tools', 'budgets', 'people', 'levels', 'health', 'nowhere']) {
    await alice.page.goto(`/console/${page}`);
    await alice.isAccessible(page);
    await alice.page.setViewportSize({ width: 360, height: 740 });
    const overflow = await alice.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(overflow <= 0, `${page} is ${overflow} wider than a phone`);
    await alice.page.setViewportSize({ width: 1280, height: 720 });
    if (/^(session\?.*|log|tools|budgets)$/.test(page)) await alice.photograph(page.split('?')[0]);
  }
  await alice.leave();
};

tries['the page itself proves that an entry is in the log, and says so when it is not'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  await server.propose(15);
  const { size } = await server.rest('GET', '/v1/log/checkpoint', undefined, 'alice');
  for (const index of [0, 1, Math.floor(size / 2), size - 1]) {
    await alice.page.goto(`/console/log/${index}`);
    await alice.page.locator('.proof.good').waitFor();
  }
  await alice.photograph('entry');
  for (const [what, change] of [
    ['another entry', (proof) => ({ ...proof, entry: btoa('{}') })],
    ['another place', (proof) => ({ ...proof, index: proof.index + 1 })],
    ['a path that is cut', (proof) => ({ ...proof, path: proof.path.slice(1) })],
    ['another size', (proof) => ({ ...proof, checkpoint: proof.checkpoint.replace(/\n(\d+)\n/, '\n7$1\n') })],
    ['a signature of somebody else', (proof) => ({ ...proof, checkpoint: proof.checkpoint.replace(/(.{6})..\n$/, '$1AA\n') })],
  ]) {
    await alice.page.route('**/console/log/2', async (route) => {
      const answer = await route.fetch();
      const body = (await answer.text()).replace(/data-proof="([^"]*)"/, (_all, text) => {
        const plain = text.replaceAll('&#34;', '"').replaceAll('&quot;', '"').replaceAll('&#x2F;', '/').replaceAll('&amp;', '&');
        return `data-proof="${JSON.stringify(change(JSON.parse(plain))).replaceAll('&', '&amp;').replaceAll('"', '&quot;')}"`;
      });
      await route.fulfill({ response: answer, body });
    });
    await alice.page.goto('/console/log/2');
    await alice.page.locator('.proof.bad').waitFor();
    assert.match(await alice.page.locator('.proof').innerText(), /NOT proved/, what);
    await alice.page.unroute('**/console/log/2');
  }
  await alice.leave();
};

tries['a command line acts as who lets it, by keys alone, and gives that back'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  const home = path.join(server.dir, 'home');
  fs.mkdirSync(home);
  const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: '', COUNTERSIGN_URL: server.url };
  delete env.COUNTERSIGN_KEY;
  const line = spawn(binary, ['login', '--machine', 'laptop'], { env });
  const ended = new Promise((found) => line.on('exit', found));
  let told = '';
  const address = await new Promise((found) => line.stderr.on('data', (text) => {
    told += text;
    const [, url] = told.match(/(http:\S+)\s/) ?? [];
    if (url) found(url);
  }));
  await alice.page.goto(address);
  await alice.sees('Let the command line act as you?', 'laptop', 'nobody has checked it', told.match(/letters (\S+):/)[1]);
  await alice.isAccessible('the page of a command line');
  await alice.page.getByRole('button', { name: 'Let it act as me' }).focus();
  await alice.page.keyboard.press('Enter');
  // A page leads on to the command line, past what forms may not do.
  await alice.page.waitForURL(/^http:\/\/127\.0\.0\.1:\d+\/signed-in\?code=/);
  await alice.sees('Go back to the command line.');
  assert.equal(await ended, 0, told);
  const whoami = () => spawnSync(binary, ['whoami', '--json'], { env, encoding: 'utf8' });
  assert.equal(JSON.parse(whoami().stdout).person, 'alice');
  assert.equal(spawnSync(binary, ['logout'], { env }).status, 0);
  assert.equal(whoami().status, 2);
  await alice.leave();
};

tries['a first page is small and quick'] = async (server) => {
  const alice = await (await Visitor.come(server)).setUp();
  let bytes = 0;
  const session = await alice.context.newCDPSession(alice.page);
  await session.send('Network.enable');
  await session.send('Network.clearBrowserCache');
  session.on('Network.loadingFinished', (event) => { bytes += event.encodedDataLength; });
  await alice.page.goto('/console/');
  await alice.sees('Live.');
  assert.ok(bytes > 0 && bytes < 200 * 1024, `a cold load takes ${bytes} bytes`);
  await alice.leave();
};

async function main() {
  browser = await chromium.launch({
    executablePath: process.env.COUNTERSIGN_TEST_CHROMIUM,
    args: process.getuid() === 0 ? ['--no-sandbox'] : [],
  });
  if (screenshots) fs.mkdirSync(screenshots, { recursive: true });
  let failed = 0;
  const names = Object.keys(tries).filter((name) => !wanted.length || wanted.some((word) => name.includes(word)));
  assert.ok(names.length, 'nothing has such a name');
  for (const [at, name] of names.entries()) {
    const since = Date.now();
    let server;
    try {
      server = await Server.begin(`server-${at}`);
      await tries[name](server);
      console.log(`ok    ${name} (${Date.now() - since} ms)`);
    } catch (why) {
      failed += 1;
      console.log(`FAIL  ${name}\n${why.stack ?? why}`);
      const [page] = browser.contexts().flatMap((context) => context.pages());
      if (page) await page.screenshot({ path: path.join(folder, `failed-${at}.png`), fullPage: true }).catch(() => {});
    } finally {
      await Promise.all(browser.contexts().map((context) => context.close()));
      await server?.stop();
    }
  }
  await browser.close();
  console.log(`${names.length - failed} of ${names.length} hold`);
  process.exit(failed ? 1 : 0);
}

main();
