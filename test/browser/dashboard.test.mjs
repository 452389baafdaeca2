import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { until } from './browser.mjs';
import { approves, axe, looksAtAll, losesTheConnection, seesDecisionOf, seesPromoted, seesTakenBack, takesBackByKeyboard } from './people.mjs';
import { serin, steps, World } from './world.mjs';

async function world(t, o) {
  const w = await World.open(o);
  t.after(() => w.close());
  return w;
}

test('releases are watched to their end: a good one promoted, a bad one taken back', { timeout: 600_000 }, async (t) => {
  const w = await world(t, { bad: 0.3 });
  w.load();
  const page = await w.browser();
  await page.goto(w.url);
  assert.equal(new URL(page.url()).search, '', 'the token is out of the address');
  await page.getByRole('link', { name: /my-app/ }).click();
  await page.getByRole('heading', { name: 'v1 has all the traffic' }).waitFor();
  await w.add('04-deployment-v2.yaml');
  await seesPromoted(page, { version: 'v2', weights: ['10%', '50%', '100%'] });
  await until('v2 is stable', async () => (await w.view()).phase === 'Idle');
  await w.add('05-deployment-v3.yaml');
  await seesTakenBack(page, { version: 'v3', before: 'v2' });
  assert.deepEqual(w.wrong, []);
});

test('a person approves, with a reason, and it goes on in their name', { timeout: 600_000 }, async (t) => {
  const w = await world(t, { plan: steps.approval });
  w.load();
  const page = await w.browser();
  await page.goto(w.detail);
  await w.add('04-deployment-v2.yaml');
  await page.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
  await approves(page, {
    reason: 'reviewed with the team',
    effect: /Step 2 is approved for v2\. Next, v2 gets 100 %/,
    refused: async () => assert.equal((await w.view()).waiting, 'approval', 'without a reason nothing was sent'),
  });
  await seesDecisionOf(page, (await w.api('/viewer')).body.name, 'reviewed with the team');
  await page.getByRole('heading', { name: 'v2 has all the traffic' }).waitFor();
  assert.equal(await page.getByRole('button', { name: 'Approve', exact: true }).count(), 0, 'there is nothing to approve any more');
  assert.deepEqual(w.wrong, []);
});

test('a person takes a release back, by the keyboard alone', { timeout: 600_000 }, async (t) => {
  const w = await world(t, { plan: steps.long });
  w.load();
  const page = await w.browser({ reducedMotion: 'reduce' });
  await w.add('04-deployment-v2.yaml');
  await until('v2 has 10 %', async () => (await w.view()).weightSet === 1000 && (await w.view()).live);
  await takesBackByKeyboard(page, w, 'v2');
  assert.deepEqual(w.wrong, []);
});

test('the connection is lost, that is said, and nothing is missing after it is back', { timeout: 600_000 }, async (t) => {
  const w = await world(t, { plan: steps.long });
  w.load();
  const page = await w.browser();
  await page.goto(w.detail);
  await w.add('04-deployment-v2.yaml');
  await page.locator('.arm.right .arm-share', { hasText: '10' }).waitFor();
  const cookie = await page.context().cookies();
  assert.equal(cookie.length, 1);
  assert.ok(cookie[0].httpOnly && cookie[0].sameSite === 'Strict' && cookie[0].path === '/_serin/', JSON.stringify(cookie[0]));

  // The daemon is killed and comes back: to the page it is the connection.
  await losesTheConnection(page, w, {
    cut: () => w.down('SIGKILL'),
    back: async (reason) => {
      await w.up();
      const r = await w.api('/rollouts/my-app/commands', { method: 'POST', body: JSON.stringify({ id: 'x1', verb: 'pause', reason }) });
      assert.equal(r.status, 200, JSON.stringify(r.body));
    },
  });
  // Who looks for the first time now is shown the release's beginning, by its decisions.
  await page.reload();
  await page.getByText('only decisions were kept').waitFor();
  await page.getByRole('button', { name: /^Decision \d+:/ }).first().waitFor();
  assert.deepEqual(w.wrong, []);
});

test('who may only look is shown no button, and refused what a page could send', { timeout: 600_000 }, async (t) => {
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

test('list and detail have no serious finding of axe, light and dark, wide and narrow', { timeout: 600_000 }, async (t) => {
  const w = await world(t, { plan: steps.approval });
  w.load();
  const page = await w.browser();
  await w.add('04-deployment-v2.yaml');
  await page.goto(w.detail);
  await page.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
  await looksAtAll(page, w);
  assert.deepEqual(w.wrong, []);
});

test('an export is one file that shows how it was, from a disk, without a network', { timeout: 600_000 }, async (t) => {
  const w = await world(t, { bad: 0.3 });
  w.load();
  const page = await w.browser();
  await page.goto(w.detail);
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
