// What people do in a browser on a real cluster; started by
// test/cluster/dashboard_test.go, which has the cluster and the dashboards:
//   node cluster.mjs ALICES-ADDRESS BOBS-ADDRESS SIGN-IN-ADDRESS CAROLS-TOKEN NAMESPACE
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { chrome, patience, until } from './world.mjs';

const [alice, bob, window, token, ns] = process.argv.slice(2);
const b = await chromium.launch({ executablePath: chrome, args: ['--no-sandbox'] });
try {
  const open = async (url) => {
    const page = await (await b.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
    page.setDefaultTimeout(patience);
    await page.goto(url);
    return page;
  };
  const looks = await open(bob);
  await looks.getByRole('link', { name: /my-app/ }).click();
  await looks.getByRole('heading', { name: 'v2 waits for an approval' }).waitFor();
  assert.equal(await looks.getByRole('group', { name: 'Actions' }).count(), 0, 'who may only look has no button');

  const carol = await open(window);
  await carol.getByLabel('Token').fill(token);
  await carol.getByRole('button', { name: 'Sign in' }).click();
  await carol.getByRole('link', { name: /my-app/ }).click();
  await carol.getByRole('button', { name: 'Approve', exact: true }).waitFor();

  const page = await open(alice + '#/r/' + ns + '/my-app');
  await page.getByRole('button', { name: 'Approve', exact: true }).click();
  await page.getByLabel('Reason').fill('reviewed in a browser');
  await page.getByRole('dialog').getByRole('button', { name: 'Approve' }).click();
  for (const p of [page, looks, carol]) {
    const entry = p.locator('.entry', { hasText: 'reviewed in a browser' });
    await entry.waitFor();
    assert.equal(await entry.locator('.author').textContent(), 'alice');
  }
  await until('everybody is shown its end', async () => {
    const heads = await Promise.all([page, looks, carol].map((p) => p.locator('.headline').textContent()));
    return heads.every((h) => h === 'v2 has all the traffic');
  });
  console.log('alice approved, bob looked, carol signed in');
} finally {
  await b.close();
}
