import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { patience, serin, steps, until, World } from './world.mjs';
import { chromium } from 'playwright-core';
import { chrome } from './world.mjs';

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds that is serious. It is put in from outside: the page's own policy lets nothing in. */
async function axe(page, where) {
  const found = await page.evaluate(axeSource + '; axe.run(document, { resultTypes: ["violations"] })');
  const serious = found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
  assert.deepEqual(
    serious.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ') + ' ' + (n.failureSummary ?? '').split('\n').slice(1).join('')).slice(0, 4).join(' | ')}`),
    [],
    `axe on ${where}`,
  );
}

async function world(t, o) {
  const w = await World.open(o);
  t.after(() => w.close());
  return w;
}

const detail = (w) => w.url + '#/r/-/my-app';

test('the demo is watched from its first release to its last: a good one promoted, a bad one taken back', { timeout: 300_000 }, async (t) => {
  const out = await mkdtemp(path.join(tmpdir(), 'sb-demo-'));
  const demo = spawn(serin, ['demo', '--out', out], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((r) => demo.on('exit', r));
  t.after(async () => {
    if (demo.exitCode === null) demo.kill('SIGTERM');
    await ended;
    await rm(out, { recursive: true, force: true });
  });
  let said = '';
  demo.stdout.on('data', (b) => (said += b));
  const url = await until('the demo says where to watch', () => /watch it at (\S+)/.exec(said)?.[1]);

  const b = await chromium.launch({ executablePath: chrome, args: ['--no-sandbox'] });
  t.after(() => b.close());
  const page = await b.newPage();
  page.setDefaultTimeout(patience);
  const wrong = [];
  page.on('pageerror', (e) => wrong.push(e.message));
  await page.goto(url);
  assert.equal(new URL(page.url()).search, '', 'the token is out of the address');
  await page.getByRole('link', { name: /my-app/ }).click();
  const head = page.locator('.headline');

  await page.locator('.arm.right', { hasText: 'v2' }).waitFor();
  await page.locator('.gauge[aria-label*="Evidence"]').waitFor();
  const weights = new Set();
  await until(
    'v2 has all the traffic',
    async () => {
      weights.add((await page.locator('.arm.right .arm-share').textContent({ timeout: 500 }).catch(() => '')).replace(/\s/g, ''));
      return /v2 (has all the traffic|holds up)/.test(await head.textContent());
    },
    150_000,
  );
  for (const wt of ['5%', '25%', '50%', '75%', '100%']) assert.ok(weights.has(wt), `${wt} was shown; seen: ${[...weights]}`);
  await page.locator('.entry', { hasText: 'Promoted' }).waitFor();

  await until('v3 is taken back', async () => /v3 was taken back/.test(await head.textContent()), 150_000);
  const why = await page.locator('.sentence').textContent();
  assert.match(why, /Errors .*%.* on stable/, 'it says why, with figures');
  const entry = page.locator('.entry.bad', { hasText: 'Taken back' }).first();
  await entry.getByText('Open numbers').click();
  const row = entry.locator('tbody tr', { hasText: 'Error rate' });
  assert.match(await row.textContent(), /%/);
  assert.match(await page.locator('.recent tbody tr').first().textContent(), /v3.*taken back/s);
  assert.match(await page.locator('.recent tbody tr').nth(1).textContent(), /v2.*promoted/s);
  assert.deepEqual(wrong, []);
});

test('a person approves, with a reason, and it goes on in their name', { timeout: 300_000 }, async (t) => {
  const w = await world(t, { plan: steps.approval });
  w.load();
  const page = await w.browser();
  await page.goto(detail(w));
  await w.add('04-deployment-v2.yaml');
  await page.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
  await page.getByRole('button', { name: 'Approve', exact: true }).click();
  const dialog = page.getByRole('dialog');
  assert.match(await dialog.textContent(), /Step 2 is approved for v2\. Next, v2 gets 100 %/, 'it says its effect');
  await dialog.getByRole('button', { name: 'Approve' }).click();
  await dialog.getByText('A reason is asked for').waitFor();
  assert.equal((await w.view()).waiting, 'approval', 'without a reason nothing was sent');
  await dialog.getByLabel('Reason').fill('reviewed with the team');
  await axe(page, 'the dialog');
  await dialog.getByRole('button', { name: 'Approve' }).click();
  await dialog.waitFor({ state: 'hidden' });
  const entry = page.locator('.entry', { hasText: 'reviewed with the team' });
  await entry.waitFor();
  const who = (await w.api('/viewer')).body.name;
  assert.equal(await entry.locator('.author').textContent(), who);
  await page.getByRole('heading', { name: 'v2 has all the traffic' }).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Approve', exact: true }).count(), 0, 'there is nothing to approve any more');
  assert.deepEqual(w.wrong, []);
});

test('a person takes a release back, by the keyboard alone', { timeout: 300_000 }, async (t) => {
  const w = await world(t, { plan: steps.long });
  w.load();
  const page = await w.browser({ reducedMotion: 'reduce' });
  await page.goto(w.url);
  await page.getByRole('link', { name: /my-app/ }).waitFor();
  await w.add('04-deployment-v2.yaml');
  await until('v2 has 10 %', async () => (await w.view()).weightSet === 1000 && (await w.view()).live);
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.type), 'search');
  await page.keyboard.type('nothing like it');
  await page.getByText('No rollout matches').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('my-a');
  await page.keyboard.press('Enter');
  await until('the row has the focus', () => page.evaluate(() => document.activeElement.classList.contains('row')));
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Take back' }).waitFor();
  await until('Tab reaches the button', async () => {
    await page.keyboard.press('Tab');
    return page.evaluate(() => document.activeElement.textContent === 'Take back');
  });
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await until('the reason has the focus', () => page.evaluate(() => document.activeElement.id === 'ask-reason'));
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.equal((await w.view()).phase, 'Progressing', 'Escape sends nothing');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Take back', 'the focus is where it was');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.type('wrong colour');
  await page.keyboard.press('Control+Enter');
  await page.getByRole('heading', { name: 'v2 was taken back' }).waitFor();
  const v = await until('it is at rest', async () => {
    const v = await w.view();
    return v.phase === 'Idle' && v;
  });
  assert.equal(v.history.at(-1).result, 'aborted');
  assert.match(v.decisions.find((d) => d.what === 'Aborted').why, /wrong colour/);
  await page.keyboard.press('u');
  await page.getByRole('heading', { name: 'Rollouts' }).waitFor();
  assert.deepEqual(w.wrong, []);
});

test('the connection is lost, that is said, and nothing is missing after it is back', { timeout: 300_000 }, async (t) => {
  const w = await world(t, { plan: steps.long });
  w.load();
  const page = await w.browser();
  await page.goto(detail(w));
  await w.add('04-deployment-v2.yaml');
  await page.locator('.arm.right .arm-share', { hasText: '10' }).waitFor();
  const cookie = await page.context().cookies();
  assert.equal(cookie.length, 1);
  assert.ok(cookie[0].httpOnly && cookie[0].sameSite === 'Strict' && cookie[0].path === '/_serin/', JSON.stringify(cookie[0]));

  // The network goes and comes back: nothing was missed.
  await w.down('SIGKILL');
  await page.getByText('The connection is lost.').waitFor();
  await w.up();
  await until('live again', async () => /live/.test(await page.locator('.line').textContent()));
  await w.api('/rollouts/my-app/commands', { method: 'POST', body: JSON.stringify({ id: 'x1', verb: 'pause', reason: 'while you were away' }) });
  await page.getByText('while you were away').first().waitFor();
  const shown = await page.locator('.entry-n').allTextContents();
  const all = (await w.view()).decisions.map((d) => String(d.n)).reverse();
  assert.deepEqual(shown, all.slice(0, shown.length), 'every decision is there, once, in order');
  assert.deepEqual(w.wrong, []);
});

test('who may only look is shown no button, and refused what a page could send', { timeout: 300_000 }, async (t) => {
  const w = await world(t, { plan: steps.long });
  w.load();
  await w.add('04-deployment-v2.yaml');
  const keys = JSON.parse(await readFile(path.join(w.dir, 'state', 'dashboard.keys'), 'utf8'));
  const page = await w.browser();
  await page.goto(`http://${w.dashboard}/?token=${keys.look}#/r/-/my-app`);
  await page.locator('.arm.right').waitFor();
  await page.getByText('view only').waitFor();
  await until('the offers are there', async () => (await w.view()).offers?.length > 0);
  assert.equal(await page.getByRole('group', { name: 'Actions' }).count(), 0);
  const sent = await page.evaluate(async () => {
    const r = await fetch('./_serin/v1/rollouts/my-app/commands', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ id: 'm1', verb: 'abort', by: 'root', reason: 'mine' }) });
    return r.status;
  });
  assert.equal(sent, 403);
  assert.notEqual((await w.view()).phase, 'RollingBack');

  const stranger = await (await page.context().browser().newContext()).newPage();
  await stranger.goto(`http://${w.dashboard}/#/r/-/my-app`);
  await stranger.getByRole('heading', { name: 'Who looks?' }).waitFor();
  await stranger.getByLabel('Token').fill('AAAAAAAAAAAAAAAAAAAAAAAAAA');
  await stranger.getByRole('button', { name: 'Sign in' }).click();
  await stranger.getByRole('alert').waitFor();
  await axe(stranger, 'the way in');
  await stranger.getByLabel('Token').fill(keys.full);
  await stranger.getByRole('button', { name: 'Sign in' }).click();
  await stranger.getByRole('button', { name: 'Take back' }).waitFor();
});

test('list and detail have no serious finding of axe, light and dark, wide and narrow', { timeout: 300_000 }, async (t) => {
  const w = await world(t, { plan: steps.approval });
  w.load();
  const page = await w.browser();
  await w.add('04-deployment-v2.yaml');
  await page.goto(detail(w));
  await page.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 800 });
      await page.goto(w.url + '#/');
      await page.reload();
      await page.getByRole('link', { name: /my-app/ }).waitFor();
      await axe(page, `the list, ${colorScheme}, ${width}`);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `the list fits ${width}`);
      await page.goto(detail(w));
      await page.getByRole('button', { name: 'Approve', exact: true }).first().waitFor();
      await axe(page, `the detail, ${colorScheme}, ${width}`);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `the detail fits ${width}: ${await page.evaluate(() => document.documentElement.scrollWidth)}`);
    }
  }
  assert.deepEqual(w.wrong, []);
});

test('an export is one file that shows how it was, from a disk, without a network', { timeout: 300_000 }, async (t) => {
  const w = await world(t, { bad: 0.3 });
  w.load();
  const page = await w.browser();
  await page.goto(detail(w));
  await w.add('05-deployment-v3.yaml');
  await page.getByRole('heading', { name: 'v3 was taken back' }).waitFor();
  await until('it is at rest', async () => (await w.view()).phase === 'Idle');
  const file = path.join(w.dir, 'post-mortem.html');
  const cli = spawn(serin, ['export', 'my-app', '--socket', path.join(w.dir, 's'), '-o', file], { stdio: 'inherit' });
  assert.equal(await new Promise((r) => cli.on('exit', r)), 0);

  // Shared: as it was while v3 had traffic.
  const started = (await w.view()).decisions.find((d) => d.what === 'StepStarted');
  const at = new Date(Date.parse(started.at) + 2500).toISOString();
  await page.goto(`http://${w.dashboard}/#/r/-/my-app?at=${encodeURIComponent(at)}`);
  await page.getByText('Frozen', { exact: true }).waitFor();
  assert.match(await page.locator('.arm.right').textContent(), /v3/);
  assert.equal(await page.locator('.entry', { hasText: 'Taken back' }).count(), 0, 'what came later is not there');
  assert.equal(await page.getByRole('group', { name: 'Actions' }).count(), 0);

  await w.down();
  const asked = [];
  const alone = await page.context().browser().newPage();
  alone.on('request', (r) => asked.push(r.url()));
  const wrong = [];
  alone.on('pageerror', (e) => wrong.push(e.message));
  await alone.goto('file://' + file);
  await alone.getByRole('heading', { name: 'v3 was taken back' }).waitFor();
  assert.ok((await alone.locator('.chart canvas').count()) >= 2, 'its charts are there');
  assert.match(await alone.locator('.sentence').textContent(), /Errors/);
  assert.equal(await alone.locator('.btn.danger').count(), 0);
  assert.deepEqual(asked.filter((u) => !u.startsWith('file:') && !u.startsWith('data:')), []);
  assert.deepEqual(wrong, []);
});
