// The pictures of docs/DASHBOARD.md: a real daemon with the demo's traffic, and
// for the long list the stage. `node shots.mjs DIR`.
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { buildStage, openStage } from './stage.mjs';
import { project, until } from './browser.mjs';
import { World } from './world.mjs';

const out = path.resolve(process.argv[2] ?? path.join(project, 'docs/img'));
await mkdir(out, { recursive: true });
const plan = `steps:
      - {weight: 5%, hold: 12s}
      - {weight: 25%, hold: 20s}
      - {approval: {}}
      - {weight: 50%, hold: 20s}
      - {weight: 100%, hold: 10s}`;

const w = await World.open({ plan, bad: 0.05, shipped: true });
const { bin, remove } = await buildStage();
let stage;
try {
  w.rate = 240;
  w.load();
  const page = await w.browser({ deviceScaleFactor: 1.5 });
  const save = (name, o = {}) => page.screenshot({ path: path.join(out, name + '.png'), ...o });
  const settled = async () => {
    await page.evaluate(() => scrollTo(0, 0));
    await page.waitForTimeout(900); // transitions of the bars
  };
  await page.goto(w.url + '#/r/-/my-app');
  await w.add('04-deployment-v2.yaml');
  await page.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
  await settled();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await settled();
    await save('detail-' + colorScheme, { fullPage: true });
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 360, height: 760 });
  await settled();
  await save('detail-phone');
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.getByRole('button', { name: 'Approve', exact: true }).click();
  await page.getByLabel('Reason').fill('Numbers reviewed with the team');
  await settled();
  await save('approve');
  await page.getByRole('dialog').getByRole('button', { name: 'Approve' }).click();
  await page.getByRole('heading', { name: 'v2 has all the traffic' }).waitFor();
  await until('v2 is stable', async () => (await w.view()).stable.version === 'v2' && (await w.view()).phase === 'Idle');
  await w.add('05-deployment-v3.yaml');
  await page.getByRole('heading', { name: 'v3 was taken back' }).waitFor();
  await until('it is at rest', async () => (await w.view()).phase === 'Idle');
  await settled();
  await page.locator('.entry.bad summary').first().click();
  await settled();
  await save('taken-back', { fullPage: true });

  stage = await openStage(bin, ['-n', '2000', '-active', '100']);
  await page.goto(stage.url);
  await page.locator('.row').first().waitFor();
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await settled();
    await save('list-' + colorScheme);
  }
  await page.setViewportSize({ width: 360, height: 760 });
  await settled();
  await save('list-phone');
} finally {
  await stage?.close();
  await remove();
  await w.close();
}
