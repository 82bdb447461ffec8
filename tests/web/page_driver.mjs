// A server (the real program with the tiny model), a browser, and what the tests do with both.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const { chromium } = await import(process.env.HEARTH_PLAYWRIGHT);

const home = process.env.HEARTH_HOME ?? join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local/share'), 'hearth');
const model =
  process.env.HEARTH_TEST_MODEL ?? join(home, 'models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf');

// The program, in a folder of its own, once it said where it listens (`pattern`, whose first group is that). `files`: what lies there.
export async function startProgram(argumentsIn, pattern, files = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'hearth-page-'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const program = spawn(process.env.HEARTH_PROGRAM, argumentsIn(folder), {
    env: { ...process.env, HEARTH_HOME: folder },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said = [];
  const gone = new Promise((resolve) => program.once('exit', resolve));
  const place = await new Promise((resolve, reject) => {
    program.once('exit', () => reject(new Error(`the program ended:\n${said.join('\n')}`)));
    createInterface({ input: program.stderr }).on('line', (line) => {
      said.push(line);
      const found = pattern.exec(line);
      if (found) resolve(found[1]);
    });
  });
  return {
    place,
    async stop(signal = 'SIGTERM') {
      program.kill(signal);
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

// The address of a server: $HEARTH_PAGE_URL, or that of one started here.
export async function startServer() {
  if (process.env.HEARTH_PAGE_URL) return { url: process.env.HEARTH_PAGE_URL, stop() {} };
  if (!existsSync(model)) throw new Error(`${model} is missing: ./dev fetch tiny`);
  const serve = () => ['serve', model, '--listen', '127.0.0.1:0', '--parallel', '2'];
  const { place, stop } = await startProgram(serve, /^Listening on (http:\S+)/);
  return { url: `${place}/`, stop };
}

export const startBrowser = () =>
  chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });

// Server-sent events of an answer. `finish: null`: cut off before its end.
export function answerOf({ text = '', reasoning = '', finish = 'stop' }) {
  const event = (value) => `data: ${JSON.stringify(value)}\n\n`;
  const chunk = (delta, reason = null) => event({ choices: [{ index: 0, delta, finish_reason: reason }] });
  const words = (given) => given.match(/\s*\S+|\s+$/g) ?? [];
  const body = [
    chunk({ role: 'assistant' }),
    ...words(reasoning).map((word) => chunk({ reasoning_content: word })),
    ...words(text).map((word) => chunk({ content: word })),
  ];
  if (finish) {
    body.push(chunk({}, finish));
    body.push(
      event({
        choices: [],
        usage: { prompt_tokens: 9, completion_tokens: 7 },
        timings: { predicted_per_second: 41.5 },
      }),
    );
    body.push('data: [DONE]\n\n');
  }
  return { status: 200, contentType: 'text/event-stream', body: body.join('') };
}

export const refusalOf = (status, message, headers = {}) => ({
  status,
  contentType: 'application/json',
  headers,
  body: JSON.stringify({ error: { message, type: 'x', code: 'x', param: null } }),
});

// A page of its own, and the answers that it will get instead of the model's, in turn (the last one again and again).
// `requests` are the bodies that it sent, `errors` what went wrong in its scripts.
export async function openPage(browser, url, { answers = null, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1300, height: 800 }, ...options });
  context.setDefaultTimeout(0); // the test's own limit is the clock
  const page = await context.newPage();
  const requests = [],
    errors = [],
    left = answers && [...answers];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  if (left) {
    await page.route('**/v1/chat/completions', async (route) => {
      requests.push({ ...route.request().postDataJSON(), key: route.request().headers().authorization });
      const answer = left.length > 1 ? left.shift() : left[0];
      await (answer === 'cut' ? route.abort('connectionrefused') : route.fulfill(answer));
    });
  }
  await page.goto(url);
  await page.locator('#model option:not([value=""])').first().waitFor({ state: 'attached' });
  return { page, requests, errors, close: () => context.close() };
}

export async function ask(page, question) {
  await page.fill('#question', question);
  await page.press('#question', 'Enter');
}

export const answered = (page) => page.locator('#send').waitFor();

export async function askAndWait(page, question) {
  await ask(page, question);
  await answered(page);
}

// What everyone has to be able to read, as far as a program can see it: "TEXT: CONTRAST" of each visible text below 4.5.
export const faintTexts = (page) =>
  page.evaluate(() => {
    const numbers = (color) => color.match(/[\d.]+/g).map(Number);
    const linear = (value) => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const ground = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const color = numbers(getComputedStyle(at).backgroundColor);
        if (color.length < 4 || color[3] === 1) return color;
      }
      return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
      const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
      const field = element.matches('input, textarea, select');
      if (
        (!own && !field) ||
        !element.checkVisibility({ visibilityProperty: true }) ||
        element.closest('[inert], .hidden')
      )
        continue;
      const [one, two] = [luminance(numbers(getComputedStyle(element).color)), luminance(ground(element))];
      const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
      if (contrast < 4.5) faint.push(`${element.textContent.slice(0, 40)}: ${contrast.toFixed(2)}`);
    }
    return faint;
  });

// Controls without a name, ids that are there twice, headings that skip a level, landmarks that are missing.
export const unlabelled = (page) =>
  page.evaluate(() => {
    const found = [];
    const text = (ids) =>
      ids
        .split(/\s+/)
        .map((id) => document.getElementById(id)?.textContent ?? '')
        .join(' ');
    for (const control of document.querySelectorAll(
      'button, input, select, textarea, a[href], summary, dialog, [role=region], [role=meter], nav, aside',
    )) {
      const name = control.getAttribute('aria-label') ?? text(control.getAttribute('aria-labelledby') ?? '') ?? '';
      const label = [...(control.labels ?? [])].map((each) => each.textContent).join(' ');
      const content = control.matches('button, a, summary') ? control.textContent : '';
      if (!(name + label + content).trim()) found.push(`no name: ${control.outerHTML.slice(0, 80)}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
    found.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: ${id}`));
    for (const landmark of ['main', 'nav', 'h1']) {
      if (document.querySelectorAll(landmark).length !== 1) found.push(`not one ${landmark}`);
    }
    return found;
  });

export const scrollsSideways = (page) =>
  page.evaluate(() =>
    [document.documentElement, document.getElementById('scroll')].some((part) => part.scrollWidth > part.clientWidth),
  );
