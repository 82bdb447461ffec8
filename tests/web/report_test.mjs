// The report of a quantisation in a browser: read by people on any screen, whatever is in it, without the network.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { startBrowser } from './page_driver.mjs';

const web = new URL('../../web/', import.meta.url);
const part = (name) => readFileSync(new URL(name === 'theme.css' ? name : `report/${name}`, web), 'utf8');

// What src/compress/quantize_report.cc does; that it lets no name out of the data is tested there.
const pageOf = (report) =>
  part('report.html').replace(/@@([a-z.]+)@@/g, (_, name) =>
    name === 'data' ? JSON.stringify(report).replaceAll('<', '\\u003c') : part(name),
  );

// A model of 30 layers; figures such as a real one has.
export function sampleReport() {
  let state = 7;
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const bitsOf = { i4: 4.3125, i5: 5.3125, i6: 6.3125, i8: 8.5, F32: 32 };
  const rows = { attn_q: [576, 576], attn_k: [576, 192], attn_v: [576, 192], attn_output: [576, 576], ffn_gate: [576, 1536], ffn_up: [576, 1536], ffn_down: [1536, 576] };
  const tensors = [];
  const add = (name, layer, kind, shape, type, output_error, reason = '') => {
    const weights = shape.reduce((a, b) => a * b, 1);
    tensors.push({ name, layer, kind, shape, from: 'F32', type, bytes: Math.round((weights * bitsOf[type]) / 8), bits_per_weight: bitsOf[type], output_error, reason });
  };
  add('token_embd.weight', null, 'token_embd', [576, 49152], 'i6', 0.0021, 'tied to the head: its own search');
  for (let layer = 0; layer < 30; ++layer) {
    add(`blk.${layer}.attn_norm.weight`, layer, 'attn_norm', [576], 'F32', null, 'stays: a norm');
    for (const [kind, shape] of Object.entries(rows)) {
      const edge = Math.min(layer, 29 - layer) < 2 ? 1 : 0;
      const need = random() + edge * 0.6 + (kind === 'ffn_down' ? 0.35 : 0) + (kind === 'attn_v' ? 0.5 : 0);
      const type = need > 1.3 ? 'i8' : need > 1.05 ? 'i6' : need > 0.8 ? 'i5' : 'i4';
      add(`blk.${layer}.${kind}.weight`, layer, kind, shape, type, (0.012 * (0.5 + random()) * (1 + layer / 30)) / 4 ** (bitsOf[type] - 4.3));
    }
  }
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const weights = tensors.reduce((sum, tensor) => sum + tensor.shape.reduce((a, b) => a * b, 1), 0);
  const plan = Array.from({ length: 24 }, (_, step) => ({ kind: 'plan', label: `step ${step}`, bytes: 74e6 + step * 2.6e6, mean_kld: 0.082 * Math.exp(-step / 8.5) }));
  return {
    command: 'hearth quantize smollm2-f32.gguf smollm2-mixed.pack --type mixed --target-bytes 91000000 --calibrate moby-20-49.txt --report report.html',
    version: '0.4.0',
    dry_run: false,
    source: { path: '/models/smollm2-f32.gguf', format: 'GGUF', bytes: 539845632, quality: { perplexity: 34.12, mean_kld: null, kld_p999: null, same_top: null } },
    source_sha256: '0baea4a8e1e02385864d4443e6d2f81ca484b3e2b02c72920c333f25cd697654',
    output: { path: '/models/smollm2-mixed.pack', format: 'pack', bytes: bytes + 1800000, quality: { perplexity: 34.71, mean_kld: 0.0318, kld_p999: 0.412, same_top: 0.893 } },
    weights,
    tensor_bytes: bytes,
    bits_per_weight: (8 * bytes) / weights,
    tensors,
    trade: [
      ...plan,
      { kind: 'alternative', label: 'all i4', bytes: 74.6e6, mean_kld: 0.091 },
      { kind: 'alternative', label: 'all i5', bytes: 91.3e6, mean_kld: 0.047 },
      { kind: 'alternative', label: 'all i6', bytes: 108.2e6, mean_kld: 0.0121 },
      { kind: 'alternative', label: 'i4, head i8', bytes: 88.5e6, mean_kld: 0.055 },
      { kind: 'alternative', label: 'i4, head i6', bytes: 81.2e6, mean_kld: 0.061 },
      { kind: 'alternative', label: 'all i8', bytes: 133e6, mean_kld: 0.0041 },
      { kind: 'result', label: 'mixed', bytes: bytes + 1800000, mean_kld: 0.0318 },
    ],
    target_bytes: 91000000,
    target_kld: null,
    calibration: { path: '/texts/moby-20-49.txt', sha256: '7169d2900ab5290eff03e911094bd5a06c83ee9307c5b42b87f9c03cb19fa7e3', tokens: 32768 },
    judge: { path: '/texts/moby-1-6.txt', sha256: '9ccb90a991c586d7143f01ee7111ff59c38392d52947dc410bb4cb8d5e03cca0', tokens: 8192 },
    seed: 1,
    seconds: 1834.2,
    peak_rss_bytes: 1212000000,
  };
}

let browser;
const folder = mkdtempSync(join(tmpdir(), 'hearth-report-'));
before(async () => (browser = await startBrowser()));
after(async () => {
  await browser.close();
  rmSync(folder, { recursive: true });
});

async function open(report, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  const page = await context.newPage();
  const troubles = [];
  page.on('pageerror', (error) => troubles.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && troubles.push(message.text()));
  page.on('dialog', (dialog) => (troubles.push(dialog.message()), dialog.dismiss()));
  page.on('request', (request) => request.url().startsWith('file:') || troubles.push(`asked for ${request.url()}`));
  const path = join(folder, `${Math.random()}.html`);
  writeFileSync(path, pageOf(report));
  await page.goto(pathToFileURL(path).href);
  return { page, troubles, close: () => context.close() };
}

for (const [width, colorScheme] of [[1200, 'light'], [1200, 'dark'], [375, 'light'], [320, 'dark']]) {
  test(`reads at ${width} pixels, ${colorScheme}`, async () => {
    const { page, troubles, close } = await open(sampleReport(), { viewport: { width, height: 800 }, colorScheme });
    await page.waitForSelector('.result');
    assert.equal(await page.locator('h1').textContent(), 'smollm2-mixed.pack');
    assert.match(await page.locator('.cards').textContent(), /0\.0318.*89\.3/);
    assert.equal(await page.locator('.bits tbody td').count(), 7 * 30);
    assert.equal(await page.locator('.small-plots svg').count(), 7);
    const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(wide <= screen, `the page is ${wide} wide on a screen of ${screen}`);
    if (process.env.HEARTH_SCREENSHOTS) await page.screenshot({ path: join(process.env.HEARTH_SCREENSHOTS, `report-${width}-${colorScheme}.png`), fullPage: true });
    assert.deepEqual(troubles, []);
    await close();
  });
}

test('a report without measurements, layers or targets says so and shows its plan', async () => {
  const report = { ...sampleReport(), trade: [], dry_run: true, calibration: null, judge: null, target_bytes: null };
  report.tensors = report.tensors.filter((tensor) => tensor.layer === null).map((tensor) => ({ ...tensor, output_error: null }));
  report.source.quality = report.output.quality = null;
  const { page, troubles, close } = await open(report);
  assert.match(await page.locator('header').textContent(), /plan only/);
  assert.match(await page.locator('.cards').textContent(), /not measured/);
  assert.match(await page.locator('main').textContent(), /token_embd/);
  assert.deepEqual(troubles, []);
  await close();
});

test('names are text, and tensors can be found by them', async () => {
  const report = sampleReport();
  const name = '</script><img src=x onerror=alert(1)>';
  report.tensors[5].name = report.output.path = name;
  report.tensors[5].kind = 'constructor';
  const { page, troubles, close } = await open(report);
  await page.locator('summary', { hasText: 'tensors' }).click();
  await page.getByLabel('Show tensors with').fill('onerror');
  assert.deepEqual(await page.locator('details tbody tr:visible th').allTextContents(), [name]);
  assert.equal(await page.locator('img').count(), 0);
  assert.deepEqual(troubles, []);
  await close();
});
