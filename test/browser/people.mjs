// What people do in front of the dashboard, and what they must be shown then:
// the same on every host. A host here is
//   list, detail    addresses of its pages, the first time with what lets one in
//   view()          the rollout as the API has it
// and stands for a real one: the daemon of world.mjs, a cluster's of cluster.mjs.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { until } from './browser.mjs';

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe finds that is serious. It is put in from outside: the page's own policy lets nothing in. */
export async function axe(page, where) {
  const found = await page.evaluate(axeSource + '; axe.run(document, { resultTypes: ["violations"] })');
  const serious = found.violations.filter((v) => v.impact === 'serious' || v.impact === 'critical');
  assert.deepEqual(
    serious.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ') + ' ' + (n.failureSummary ?? '').split('\n').slice(1).join('')).slice(0, 4).join(' | ')}`),
    [],
    `axe on ${where}`,
  );
}

/** List and detail, light and dark, wide and narrow; something is under way that may be acted on. */
export async function looksAtAll(page, host) {
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 360]) {
      await page.setViewportSize({ width, height: 800 });
      await page.goto(host.list);
      await page.reload();
      await page.getByRole('link', { name: /my-app/ }).waitFor();
      await axe(page, `the list, ${colorScheme}, ${width}`);
      assert.ok((await fits()) <= 0, `the list fits ${width}`);
      await page.goto(host.detail);
      await page.getByRole('group', { name: 'Actions' }).waitFor();
      await page.locator('.chart canvas').first().waitFor();
      await axe(page, `the detail, ${colorScheme}, ${width}`);
      assert.ok((await fits()) <= 0, `the detail fits ${width}: ${await fits()} too wide`);
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 900 });
}

const headline = (page) => page.locator('.headline').textContent();

/** A release is watched from its first traffic to its end, which is good. */
export async function seesPromoted(page, { version, weights }) {
  await page.locator('.arm.right', { hasText: version }).waitFor();
  await page.locator('.gauge[aria-label*="Evidence"]').waitFor();
  // Each share that is shown, noted by the page itself: a look from here could miss one.
  await page.evaluate(() => {
    window.shares = new Set();
    const look = () => {
      const el = document.querySelector('.arm.right .arm-share');
      if (el) window.shares.add(el.textContent.replace(/\s/g, ''));
    };
    look();
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
  });
  const good = new RegExp(`${version} (has all the traffic|holds up)`);
  await until(`${version} has all the traffic`, async () => good.test(await headline(page)));
  await page.locator('.entry', { hasText: 'Promoted' }).filter({ hasText: version }).first().waitFor();
  const older = page.getByRole('button', { name: /older ones/ });
  if (await older.count()) await older.click();
  for (const w of weights) {
    await page.locator('.entry', { hasText: 'Step' }).filter({ has: page.locator('.entry-move', { hasText: new RegExp(`→\\s${w.replace('%', '\\s?%')}`) }) }).first().waitFor();
  }
  const shown = await page.evaluate(() => [...window.shares]);
  assert.ok(shown.filter((s) => weights.includes(s)).length >= Math.min(3, weights.length), `its share is seen to grow: ${shown} of ${weights}`);
  await page.locator('.chart canvas').nth(1).waitFor(); // weight and metrics are drawn
}

/** A release that fails is watched until it was taken back; the page says why, with figures. */
export async function seesTakenBack(page, { version, before }) {
  const back = new RegExp(`${version} was taken back`);
  await until(`${version} is taken back`, async () => back.test(await headline(page)));
  assert.match(await page.locator('.sentence').textContent(), /Errors .*%.* on stable/, 'it says why, with figures');
  const entry = page.locator('.entry.bad', { hasText: 'Taken back' }).first();
  await entry.getByText('Open numbers').click();
  assert.match(await entry.locator('tbody tr', { hasText: 'Error rate' }).textContent(), /%/);
  const recent = page.locator('.recent tbody tr');
  await recent.first().filter({ hasText: version }).waitFor();
  assert.match(await recent.first().textContent(), new RegExp(`${version}.*taken back`, 's'));
  if (before) assert.match(await recent.nth(1).textContent(), new RegExp(`${before}.*promoted`, 's'));
}

/** Somebody approves: asked for a reason, told the effect. */
export async function approves(page, { reason, effect, refused = async () => {} }) {
  await page.getByRole('button', { name: 'Approve', exact: true }).click();
  const dialog = page.getByRole('dialog');
  if (effect) assert.match(await dialog.textContent(), effect, 'it says its effect');
  await dialog.getByRole('button', { name: 'Approve' }).click();
  await dialog.getByText('A reason is asked for').waitFor();
  await refused(); // nothing was sent
  await dialog.getByLabel('Reason').fill(reason);
  await axe(page, 'the dialog');
  await dialog.getByRole('button', { name: 'Approve' }).click();
  await dialog.waitFor({ state: 'hidden' });
}

/** It is in the timeline, as that person's. */
export async function seesDecisionOf(page, author, reason) {
  const entry = page.locator('.entry', { hasText: reason }).first();
  await entry.waitFor();
  assert.equal(await entry.locator('.author').textContent(), author);
}

/** From the list to a release that is taken back, and home again, without a mouse. */
export async function takesBackByKeyboard(page, host, version) {
  const focused = (what, is) => until(`${what} has the focus`, () => page.evaluate(is));
  await page.goto(host.list);
  await page.getByRole('link', { name: /my-app/ }).waitFor();
  await page.keyboard.press('/');
  await focused('the search', () => document.activeElement.type === 'search');
  await page.keyboard.type('nothing like it');
  await page.getByText('No rollout matches').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: /my-app/ }).waitFor();
  await page.keyboard.press('/');
  await focused('the search', () => document.activeElement.type === 'search');
  await page.keyboard.type('my-a');
  await page.getByRole('link', { name: /my-app/ }).waitFor();
  await page.keyboard.press('Enter');
  await focused('the row', () => document.activeElement.classList.contains('row'));
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'Take back' }).waitFor();
  await until('Tab reaches the button', async () => {
    await page.keyboard.press('Tab');
    return page.evaluate(() => document.activeElement.textContent === 'Take back');
  });
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await focused('the reason', () => document.activeElement.id === 'ask-reason');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.equal((await host.view()).phase, 'Progressing', 'Escape sends nothing');
  await focused('what had it before', () => document.activeElement.textContent === 'Take back');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await focused('the reason', () => document.activeElement.id === 'ask-reason');
  await page.keyboard.type('wrong colour');
  await page.keyboard.press('Control+Enter');
  await page.getByRole('heading', { name: `${version} was taken back` }).waitFor();
  const v = await until('it is at rest', async () => {
    const v = await host.view();
    return v.phase === 'Idle' && v;
  });
  assert.equal(v.history.at(-1).result, 'aborted');
  assert.match(v.decisions.findLast((d) => d.what === 'Aborted').why, /wrong colour/);
  await page.keyboard.press('u');
  await page.getByRole('heading', { name: 'Rollouts' }).waitFor();
}

/**
 * The connection is lost, which is said, and comes back; what was decided
 * meanwhile is there, once. back() mends it and has somebody pause the release
 * with the reason it is given, in either order.
 */
export async function losesTheConnection(page, host, { cut, back }) {
  const reason = 'while you were away';
  await page.goto(host.detail);
  await until('it is live', async () => /live/.test(await page.locator('.line').textContent()));
  await page.locator('.entry').first().waitFor();
  await cut();
  await page.getByText('The connection is lost.').waitFor();
  await back(reason);
  await until('live again', async () => /live/.test(await page.locator('.line').textContent()));
  await page.getByText('The connection is lost.').waitFor({ state: 'hidden' });
  await page.getByText(reason).first().waitFor();
  await until('every decision is there, once, in order', async () => {
    const shown = await page.locator('.entry-n').allTextContents();
    const all = (await host.view()).decisions.map((d) => String(d.n)).reverse();
    assert.ok(shown.length > 0);
    assert.deepEqual(shown, all.slice(0, shown.length));
    return true;
  });
}

