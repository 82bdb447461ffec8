// The gateway's page in a real browser, before a real gateway whose devices post what they like.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as driver from './page_driver.mjs';

const hostile = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const profile = (port) => `
[[signal]]
name = "tank/level"
label = ${JSON.stringify(hostile)}
unit = "%"
min = 0
max = 100
[[signal]]
name = "tank/note"
type = "text"
[[signal]]
name = "hall/temperature"
unit = "°C"
[[signal]]
name = "valve"
type = "bool"
[signal.write]
action = "confirm"
[[adapter]]
type = "http"
listen = "127.0.0.1:${port}"
signals = ["*"]
[[rule]]
name = "full"
when = "tank/level > 90"
otherwise = "open"
ask = false
[[rule.action]]
name = "open"
says = "open the valve"
write = "valve"
value = true
`;

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

let browser, gateway, port;
before(async () => {
  port = await freePort();
  const options = (folder) => ['gateway', '--config', join(folder, 'site.toml'), '--listen', '127.0.0.1:0'];
  [browser, gateway] = await Promise.all([
    driver.startBrowser(),
    driver.startProgram(options, /listening on .*\(port (\d+)\)/i, { 'site.toml': profile(port) }),
  ]);
});
after(async () => {
  await browser?.close();
  await gateway?.stop();
});

async function tell(signal, value) {
  const body = JSON.stringify({ signal, value });
  const answer = await fetch(`http://127.0.0.1:${port}/signals`, { method: 'POST', body });
  assert.deepEqual(await answer.json(), { taken: 1, refused: 0 });
}

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  context.setDefaultTimeout(0);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  await page.goto(`http://127.0.0.1:${gateway.place}/`);
  return { page, errors, close: () => context.close() };
}

const card = (page, name) => page.locator('.signal', { has: page.getByRole('heading', { name, exact: true }) });

for (const [width, colorScheme] of [[1200, 'light'], [1200, 'dark'], [360, 'light']]) {
  test(`signals, events and decisions are seen and can be read, ${width} pixels, ${colorScheme}`, { timeout: 120000 }, async () => {
    const { page, errors, close } = await open({ viewport: { width, height: 900 }, colorScheme });
    await tell('tank/note', hostile);
    for (const level of [40, 42, 44]) {
      await tell('tank/level', level);
      await card(page, 'tank/level').getByText(level.toPrecision(4)).waitFor();
    }
    await card(page, 'tank/level').locator('path').waitFor();
    assert.ok((await card(page, 'tank/note').textContent()).includes(hostile), 'what devices say is text');
    assert.match(await card(page, 'valve').textContent(), /– .*not heard yet/);
    const [inside, box] = await card(page, 'tank/note').evaluate((element) => [element.scrollWidth, element.clientWidth]);
    assert.ok(inside <= box, 'long texts stay in their card');
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator('main :is(img, script)').count(), 0);
    assert.deepEqual((await driver.unlabelled(page)).filter((each) => each !== 'not one nav'), []);
    assert.deepEqual(await driver.faintTexts(page), []);
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(wide <= screen, `the page is ${wide} wide on a screen of ${screen}`);
    if (process.env.HEARTH_SCREENSHOTS) {
      await page.screenshot({ path: join(process.env.HEARTH_SCREENSHOTS, `gateway-${width}-${colorScheme}.png`), fullPage: true });
    }
    assert.deepEqual(errors, []);
    await close();
  });
}

test('only the signals that are asked for are shown', { timeout: 120000 }, async () => {
  const { page, errors, close } = await open();
  await tell('tank/level', 40);
  await tell('hall/temperature', 20);
  await card(page, 'tank/level').waitFor();
  await page.fill('#prefix', 'hall/');
  await card(page, 'tank/level').waitFor({ state: 'detached' });
  await card(page, 'hall/temperature').waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test('an action that waits is confirmed with its button, once', { timeout: 120000 }, async () => {
  const { page, errors, close } = await open();
  await tell('tank/level', 95);
  const button = page.getByRole('button', { name: 'Confirm valve = true' });
  await button.waitFor();
  await page.locator('#decisions').getByText('full', { exact: true }).first().waitFor();
  await button.focus();
  await page.waitForTimeout(2500); // two looks at the gateway later it is still the same button
  assert.equal(await button.evaluate((element) => element === document.activeElement), true);
  await page.keyboard.press('Enter');
  await button.waitFor({ state: 'detached' });
  await page.locator('#audit').getByText(/valve/).first().waitFor();
  assert.deepEqual(errors, []);
  await close();
});

test('a gateway that is gone is said to be', { timeout: 120000 }, async () => {
  const { page, close } = await open();
  await page.locator('#state').getByText('1 of 1 adapters connected').waitFor();
  await page.route('**/v1/gateway**', (route) => route.abort('connectionrefused'));
  await page.getByRole('alert').waitFor();
  assert.match(await page.getByRole('alert').textContent(), /does not answer/);
  await page.unroute('**/v1/gateway**');
  await page.getByRole('alert').waitFor({ state: 'hidden' });
  await close();
});
