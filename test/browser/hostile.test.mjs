import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { buildStage, openStage } from './stage.mjs';
import { launch, patience } from './browser.mjs';

// Every text that comes from outside - names, reasons, versions, errors of
// processes, what people write - as markup, in every place where it is shown:
// the list, the detail page, the dialog, an export. The page's policy would stop
// a script too; here nothing may even be parsed as one.
test('no text from outside is ever markup', { timeout: 600_000 }, async (t) => {
  const { bin, remove } = await buildStage();
  t.after(remove);
  const stage = await openStage(bin, ['-hostile']);
  t.after(stage.close);
  const b = await launch();
  t.after(() => b.close());
  const page = await b.newPage();
  page.setDefaultTimeout(patience);
  const wrong = [];
  page.on('pageerror', (e) => wrong.push('error: ' + e.message));
  page.on('console', (m) => /Content.Security|TrustedHTML|Refused/.test(m.text()) && wrong.push('policy: ' + m.text()));
  page.on('dialog', (d) => (wrong.push('a dialog: ' + d.message()), d.dismiss()));
  const foreign = () =>
    page.evaluate(() => {
      const bad = [...document.querySelectorAll('script:not([src*="app.js"]):not(#frozen):not([type=module]), iframe, object, embed, img, style:not(head style), [onerror], [onload], [onfocus], [srcdoc], a[href^="javascript:"], base, meta[http-equiv=refresh]')];
      return { hurt: window.hurt, bad: bad.map((e) => e.outerHTML.slice(0, 200)) };
    });

  await page.goto(stage.url);
  await page.locator('.row').first().waitFor();
  const hrefs = [];
  const scroller = page.locator('.rows');
  for (let top = 0; top < 3000; top += 300) {
    await scroller.evaluate((e, y) => (e.scrollTop = y), top);
    for (const h of await page.locator('.row').evaluateAll((as) => as.map((a) => a.getAttribute('href')))) if (!hrefs.includes(h)) hrefs.push(h);
  }
  assert.ok(hrefs.length >= 18, `all of them are in the list: ${hrefs.length}`);
  assert.deepEqual(await foreign(), { hurt: undefined, bad: [] }, 'the list');
  for (const h of hrefs) {
    assert.ok(h.startsWith('#/r/'), h);
    await page.evaluate((h) => (location.hash = h), h);
    await page.locator('.hero').waitFor();
    await page.locator('.entry summary').first().click();
    await page.getByRole('button', { name: 'Take back' }).click();
    await page.getByRole('dialog').waitFor();
    assert.deepEqual(await foreign(), { hurt: undefined, bad: [] }, `the detail of ${decodeURIComponent(h)}`);
    await page.keyboard.press('Escape');
  }
  assert.equal(await page.evaluate(() => ({}).hurt ?? Object.prototype.hurt), undefined);

  // Exports of all of them.
  const root = new URL(stage.url).origin;
  for (const h of hrefs) {
    const [, , ns, name] = h.split('/');
    const html = await page.evaluate(async ([n, s]) => (await fetch(`./_serin/v1/rollouts/${n}/export?namespace=${s}`)).text(), [name, ns]);
    const file = path.join(path.dirname(bin), 'x.html');
    await writeFile(file, html);
    const alone = await b.newPage();
    alone.on('pageerror', (e) => wrong.push('in an export: ' + e.message));
    await alone.goto('file://' + file);
    await alone.locator('.hero').waitFor();
    const found = await alone.evaluate(() => ({ hurt: window.hurt, scripts: document.querySelectorAll('script').length, bad: document.querySelectorAll('iframe, img, object, [onload], [onerror], a[href^="javascript:"]').length }));
    assert.deepEqual(found, { hurt: undefined, scripts: 2, bad: 0 }, `the export of ${decodeURIComponent(h)}`);
    await alone.close();
  }
  assert.ok(root.startsWith('http://127.0.0.1:'));
  assert.deepEqual(wrong, []);
});

// The pages' own policy is tried too: what it forbids does not run even where
// somebody got it into the page.
test('what gets into the page does not run', { timeout: 600_000 }, async (t) => {
  const { bin, remove } = await buildStage();
  t.after(remove);
  const stage = await openStage(bin, ['-n', '3', '-active', '1']);
  t.after(stage.close);
  const b = await launch();
  t.after(() => b.close());
  const page = await b.newPage();
  await page.goto(stage.url);
  await page.locator('.row').first().waitFor();
  const out = await page.evaluate(async () => {
    const said = {};
    try {
      document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hurt=1">');
      said.html = 'taken';
    } catch (e) {
      said.html = e.name;
    }
    said.out = await fetch('http://127.0.0.1:9/').then(() => 'sent', (e) => e.name);
    await new Promise((r) => setTimeout(r, 200));
    said.hurt = window.hurt;
    return said;
  });
  assert.deepEqual(out, { html: 'TypeError', out: 'TypeError', hurt: undefined });
  const source = await readFile(new URL('../../ui/dist/app.js', import.meta.url), 'utf8');
  assert.ok(!/\beval\(|new Function\(|document\.write/.test(source));
});
