// The page in a real browser. What needs a model asks the real one; what needs a certain answer hands it in.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as driver from './page_driver.mjs';

const { answerOf, ask, askAndWait, refusalOf } = driver;

let server, browser;
before(async () => {
  [server, browser] = await Promise.all([driver.startServer(), driver.startBrowser()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

// A test with a page of its own, whose scripts must not fail (`expected`: messages of the browser that belong to the test).
function pageTest(name, options, run) {
  test(name, { timeout: 180000 }, async () => {
    const { expected = /^$/, ...rest } = options;
    const opened = await driver.openPage(browser, server.url, rest);
    try {
      await run(opened.page, opened.requests);
      assert.deepEqual(
        opened.errors.filter((error) => !expected.test(error)),
        [],
      );
    } finally {
      await opened.close();
    }
  });
}

const inMain = (page, text) => page.locator('#main').getByText(text);
const answers = (page) => page.locator('.assistant > .text').last();
const titles = (page) => page.locator('.conversations .open').allTextContents();

pageTest('an answer streams in, and stopping ends it in the server, too', {}, async (page) => {
  await ask(page, 'Write a very long story about a lighthouse.');
  const length = () => answers(page).evaluate((element) => element.textContent.length);
  const grown = async (than) =>
    page.waitForFunction(
      (least) => [...document.querySelectorAll('.assistant .text')].at(-1)?.textContent.length > least,
      than,
    );
  await grown(0);
  await grown(await length());
  await page.click('#stop');
  await inMain(page, 'Stopped.').waitFor();
  assert.ok((await length()) > 0, 'what came until then stays');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'question');
  const running = async () => {
    const { models } = await (await page.request.get(`${server.url}api/hearth/status`)).json();
    return models.reduce((sum, model) => sum + model.requests.running + model.requests.waiting, 0);
  };
  while ((await running()) > 0);
});

pageTest('an answer goes on while another conversation is open', {}, async (page) => {
  await ask(page, 'Write a very long story about a river.');
  await page.waitForFunction(() => document.querySelector('.assistant > .text')?.textContent);
  const length = (await answers(page).textContent()).length;
  await page.click('#new-chat');
  assert.equal(await page.locator('#send').isVisible(), true);
  await page.getByRole('button', { name: /^Write a very long/ }).click();
  assert.equal(await page.locator('#stop').isVisible(), true);
  await page.waitForFunction(
    (least) => document.querySelector('.assistant > .text').textContent.length > least,
    length,
  );
  await page.click('#stop');
  await driver.answered(page);
  await page.reload();
  await inMain(page, 'Stopped.').waitFor();
});

pageTest('a whole answer of the real model has its figures', {}, async (page) => {
  await page.click('#settings-open');
  await page.fill('#max_tokens', '8');
  await askAndWait(page, 'Hello!');
  assert.match(await page.locator('.figures').textContent(), /^\d+ tokens · [\d.]+ per second$/);
});

pageTest(
  'answering again replaces the answer',
  { answers: [answerOf({ text: 'First.' }), answerOf({ text: 'Second.' })] },
  async (page, requests) => {
    await askAndWait(page, 'Name one.');
    await page.getByRole('button', { name: 'Answer again' }).click();
    await inMain(page, 'Second.').waitFor();
    assert.deepEqual(await page.locator('.assistant > .text').allTextContents(), ['Second.']);
    assert.deepEqual(requests[1].messages, [{ role: 'user', content: 'Name one.' }]);
  },
);

pageTest(
  'editing asks the last question anew, with what came before',
  { answers: [answerOf({ text: 'Yes.' })] },
  async (page, requests) => {
    await askAndWait(page, 'One');
    await askAndWait(page, 'Tow');
    await page.getByRole('button', { name: 'Edit the question' }).click();
    await page.getByLabel('The question').fill('Two');
    await page.keyboard.press('Enter');
    await driver.answered(page);
    assert.deepEqual(
      requests[2].messages.map(({ content }) => content),
      ['One', 'Yes.', 'Two'],
    );
    assert.deepEqual(await page.locator('.said').allTextContents(), ['One', 'Two']);
  },
);

pageTest(
  'settings are sent, those left empty are not',
  { answers: [answerOf({ text: 'Yes.' })] },
  async (page, requests) => {
    await askAndWait(page, 'One');
    await page.click('#settings-open');
    await page.fill('#system', 'Be brief.');
    for (const [id, value] of [
      ['temperature', '0.25'],
      ['top_p', '0.9'],
      ['top_k', '20'],
      ['max_tokens', '64'],
      ['seed', '7'],
    ])
      await page.fill(`#${id}`, value);
    await page.reload();
    await askAndWait(page, 'Two');
    const [{ model: first, ...before }, { model: second, ...after }] = requests;
    assert.ok(first && first === second);
    const usual = { stream: true, stream_options: { include_usage: true }, key: undefined };
    assert.deepEqual(before, { messages: [{ role: 'user', content: 'One' }], ...usual });
    assert.equal(after.messages[0].content, 'Be brief.');
    assert.deepEqual(
      [after.temperature, after.top_p, after.top_k, after.max_tokens, after.seed],
      [0.25, 0.9, 20, 64, 7],
    );
  },
);

pageTest(
  'conversations survive a reload, can be renamed, deleted and carried over',
  { answers: [answerOf({ text: 'Kept.' })] },
  async (page) => {
    await askAndWait(page, 'Remember this');
    await page.reload();
    await inMain(page, 'Kept.').waitFor();
    await page.click('#new-chat');
    await askAndWait(page, 'Another');
    await page.getByRole('button', { name: 'Remember this', exact: true }).hover();
    await page.getByRole('button', { name: 'Rename “Remember this”' }).click();
    await page.keyboard.type('Renamed');
    await page.keyboard.press('Enter');
    assert.deepEqual((await titles(page)).sort(), ['Another', 'Renamed']);
    const [file] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
    const path = await file.path();
    await page.getByRole('button', { name: 'Delete “Another”' }).click();
    await page.getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByRole('button', { name: 'Another', exact: true }).waitFor({ state: 'detached' });
    await page.setInputFiles('#import-file', path);
    await page.getByRole('button', { name: 'Another', exact: true }).waitFor();
    assert.deepEqual((await titles(page)).sort(), ['Another', 'Renamed', 'Renamed']);
    await page.setInputFiles('#import-file', {
      name: 'x.json',
      mimeType: 'application/json',
      buffer: Buffer.from('{"format":"hearth-conversations","conversations":[{"messages":[{"role":"system"}]}]}'),
    });
    await page.getByText('Conversation 1 of the file is damaged.').waitFor();
  },
);

pageTest(
  'everything can be done with the keyboard alone',
  { answers: [answerOf({ text: 'Typed.' })] },
  async (page) => {
    const press = (...keys) => keys.reduce((done, key) => done.then(() => page.keyboard.press(key)), Promise.resolve());
    const tabTo = async (name) => {
      for (let at = 0; at < 40; ++at) {
        await press('Tab');
        if (
          await page.evaluate(
            (wanted) =>
              (document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent).trim() ===
              wanted,
            name,
          )
        )
          return;
      }
      assert.fail(`no way to ${name}`);
    };
    await page.evaluate(() => document.activeElement.blur());
    await tabTo('Skip to the question');
    await press('Enter');
    await page.keyboard.type('By hand');
    await press('Enter');
    await inMain(page, 'Typed.').waitFor();
    await tabTo('Rename “By hand”');
    await press('Enter');
    await page.keyboard.type('Mine');
    await press('Enter');
    await page.waitForFunction(() => document.activeElement.textContent === 'Mine'); // where it was
    await tabTo('Delete “Mine”');
    await press('Enter', 'Escape');
    await tabTo('Settings');
    await press('Enter');
    await page.setViewportSize({ width: 360, height: 640 });
    await press('Escape');
    assert.equal(await page.locator('#settings').isHidden(), true);
    await tabTo('Live view');
    await press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Close live view');
    await press('Tab', 'Tab', 'Tab');
    assert.equal(
      await page.evaluate(() => document.activeElement.closest('main')),
      null,
      'what lies below is out of reach',
    );
    await press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'live-open');
    assert.deepEqual(await titles(page), ['Mine']);
  },
);

test('the page asks nobody else, weighs little and is cached by content', { timeout: 180000 }, async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  const seen = [];
  let bytes = 0;
  page.on('response', async (response) => {
    seen.push(response.url());
    bytes += (await response.body().catch(() => '')).length;
  });
  await page.goto(server.url, { waitUntil: 'networkidle' });
  assert.ok(seen.length > 10);
  assert.deepEqual(
    seen.filter((url) => !url.startsWith(server.url)),
    [],
  );
  assert.ok(bytes < 200000, `${bytes} bytes`);
  const get = (path, headers) => context.request.get(server.url + path, { headers });
  const first = await get('', { Accept: 'text/html' });
  assert.match(first.headers()['content-security-policy'], /default-src 'self'/);
  assert.match(first.headers()['content-type'], /^text\/html/);
  assert.equal((await get('', { Accept: 'text/html', 'If-None-Match': first.headers().etag })).status(), 304);
  assert.equal(await (await get('', { Accept: '*/*' })).text(), 'Ollama is running');
  assert.equal((await get('web/../index.html', {})).status(), 404);
  assert.equal((await get('web/main.js', {})).headers()['content-type'], 'text/javascript; charset=utf-8');
  await context.close();
});

const hard = [
  '# Heading',
  `A very ${'long'.repeat(80)} word and \`${'code'.repeat(60)}\`, **bold**, *soft*, [a link](https://example.org).`,
  '1. one\n   - nested',
  '> quoted',
  `| ${'wide | '.repeat(12)}\n|${' --- |'.repeat(12)}\n| ${'cell | '.repeat(12)}`,
  `\`\`\`c++\n${'int x; '.repeat(60)}\n\`\`\``,
].join('\n\n');

for (const [width, height] of [
  [360, 640],
  [1300, 800],
]) {
  for (const colorScheme of ['light', 'dark']) {
    pageTest(
      `${width} pixels, ${colorScheme}: all can be read, is named and fits`,
      {
        viewport: { width, height },
        colorScheme,
        expected: /429/,
        answers: [answerOf({ text: hard, reasoning: 'Hm. So.' }), refusalOf(429, 'too many')],
      },
      async (page) => {
        const check = async (where) => {
          assert.deepEqual(await driver.faintTexts(page), [], where);
          assert.deepEqual(await driver.unlabelled(page), [], where);
          assert.equal(await driver.scrollsSideways(page), false, where);
        };
        await check('welcome');
        await askAndWait(page, `What ${'about'.repeat(50)} this?`);
        await inMain(page, 'Thoughts').click();
        await check('answer');
        await askAndWait(page, 'And now?');
        await check('refusal');
        for (const side of ['settings', 'live']) {
          await page.click(`#${side}-open`);
          if (side === 'live') await page.locator('#live .card').first().waitFor();
          await check(side);
          await page.locator(`#${side} [data-close]`).click();
        }
        if (width < 800) await page.click('#sidebar-open');
        await check('conversations');
        await page.click('#theme');
        await check('the other theme');
        await page.reload();
        const dark = await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme);
        assert.equal(dark, colorScheme === 'light' ? 'dark' : 'light', 'the choice outlives a reload');
      },
    );
  }
}

const hostile =
  '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script> [a](javascript:window.hacked=1) [b](data:text/html,x) ![c](/x.png)\n\n```"><svg/onload=window.hacked=1>\n</code><script>window.hacked=1</script>\n```\n\n| <b onmouseover=window.hacked=1> |\n| --- |\n| </table><iframe> |';

const siteOf = (name, losses, sent) => ({
  broker: true,
  members: [
    { name, process: 'node-7950', there: true, silent_seconds: 0, stages_at: '10.0.0.2:7950', door: '', memory_bytes: 4e9, cores: 4,
      bytes_per_second: 9.5e9, battery: true, hot: true, running: 0, queued: 0, models: [],
      stages: [{ owner: 'desk', model: 'ab', first: 6, end: 18, epoch: 1, steps: 1234 }] },
    { name: 'desk', process: 'serve-8080', there: false, silent_seconds: 12, stages_at: '', door: '10.0.0.1:8080', memory_bytes: 8e9,
      cores: 8, bytes_per_second: 0, battery: false, hot: false, running: 1, queued: 2, models: [], stages: [] },
  ],
  doors: [{ name: 'hall', address: '10.0.0.3:8081', lives: false, models: [{ running: 1, waiting: 0 }] }],
  chains: [
    { model: 'smollm2', plan: `layers 6-18 on ${name}; 9 tokens/s expected`, steps: 40, epochs: 1, losses, moves: 0, resumed: 0, machines: [
      { address: '10.0.0.2:7950', layers: [6, 18], bytes: { sent, received: sent }, frames: { sent: 9, received: 9 }, round_trip_seconds: 0.00031 },
      { address: '10.0.0.4:7950', layers: [18, 30], bytes: { sent, received: sent }, frames: { sent: 9, received: 9 }, round_trip_seconds: 0.0042 },
    ] },
  ],
}); // prettier-ignore

for (const colorScheme of ['light', 'dark']) {
  pageTest(`the site is shown with its links and changes, ${colorScheme}`, { colorScheme }, async (page) => {
    assert.equal(await page.locator('#site-open').isHidden(), true, 'no site, no button');
    let asked = 0;
    await page.route('**/v1/site', (route) => route.fulfill({ json: siteOf(hostile, ++asked > 3 ? 1 : 0, asked * 1e6) }));
    await page.reload();
    await page.getByRole('button', { name: 'Site', exact: true }).click();
    const panel = page.getByRole('complementary', { name: 'Site' });
    await panel.locator('.figure.changed').getByText('machines lost').waitFor();
    await panel.getByText('Last change: a machine was lost').waitFor();
    assert.equal(await page.locator('#announcer').textContent(), 'smollm2: a machine was lost');
    assert.equal(
      await panel.getByRole('img').getAttribute('aria-label'),
      `Layers: 0-6 this machine, 6-18 ${hostile}, 18-30 10.0.0.4:7950`,
    );
    await panel.getByText(`Planned: layers 6-18 on ${hostile}; 9 tokens/s expected`, { exact: true }).waitFor();
    const link = panel.getByRole('group', { name: 'Link to 10.0.0.4:7950' });
    assert.match(await link.textContent(), /layers 18-30Round trip4\.20 msSent[\d.]+ [kM]B\/sReceived[\d.]+ [kM]B\/s$/);
    assert.ok((await panel.locator('h3').allTextContents()).includes(hostile), 'names are text');
    assert.equal(await panel.locator(':is(img, script, iframe, a)').count(), 0);
    for (const text of ['there', 'battery', 'hot', 'silent for 12 s', 'does not answer'])
      assert.equal(await panel.getByText(text, { exact: true }).count(), 1, text);
    const cards = panel.locator('.card');
    const wide = await cards.evaluateAll((all) => all.filter((card) => card.scrollWidth > card.clientWidth).length);
    assert.equal(wide, 0, 'long names stay in their card');
    assert.deepEqual(await driver.faintTexts(page), []);
    assert.deepEqual(await driver.unlabelled(page), []);
    if (process.env.HEARTH_SHOT) await page.screenshot({ path: `${process.env.HEARTH_SHOT}-${colorScheme}.png` });
  });
}

pageTest(
  'text of models and titles is text',
  { answers: [answerOf({ text: hostile, reasoning: hostile })] },
  async (page) => {
    await askAndWait(page, hostile);
    await page.getByRole('button', { name: /^Rename/ }).click();
    await page.keyboard.type(hostile.slice(0, 60));
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: /^Delete/ }).click();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.reload();
    await page.locator('.assistant').waitFor();
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(
      await page.locator('.message :is(img, script, iframe, a, b, object), .conversations :is(img, script)').count(),
      0,
    );
    assert.ok(
      (await page.locator('.said').textContent()).includes('<img src=x onerror="window.hacked=1">'),
      'it is shown as it is',
    );
  },
);

pageTest(
  'a screen reader hears the answer in few pieces',
  { answers: [answerOf({ text: 'It is so. '.repeat(60), reasoning: 'Let me see.' })] },
  async (page) => {
    await page.evaluate(() => {
      let now = 0;
      performance.now = () => (now += 10); // the page's clock, however busy the machine is
      window.heard = [];
      new MutationObserver(() => window.heard.push(document.getElementById('announcer').textContent)).observe(
        document.getElementById('announcer'),
        { childList: true },
      );
    });
    await askAndWait(page, 'Is it?');
    const heard = await page.evaluate(() => window.heard);
    assert.equal(heard[0], 'Answering');
    assert.ok(heard.length <= 5, `${heard.length} announcements`);
    assert.equal(heard.slice(1).join(' ').split('It is so.').length - 1, 60, 'all of it, and nothing twice');
    assert.match(heard.at(-1), /End of the answer\.$/);
  },
);

pageTest(
  'thoughts are folded away',
  { answers: [answerOf({ text: 'Four.', reasoning: 'Two and two.' })] },
  async (page, requests) => {
    await askAndWait(page, 'Two and two?');
    assert.equal(await inMain(page, 'Two and two.').isVisible(), false);
    await inMain(page, 'Thoughts').click();
    assert.equal(await inMain(page, 'Two and two.').isVisible(), true);
    await askAndWait(page, 'Sure?');
    assert.deepEqual(requests[1].messages[1], { role: 'assistant', content: 'Four.' }, 'they are not sent back');
  },
);

pageTest(
  'a key is asked for, used, and not kept unless wished',
  { expected: /401/, answers: [refusalOf(401, 'a key is needed'), answerOf({ text: 'Welcome.' })] },
  async (page, requests) => {
    await askAndWait(page, 'Hello');
    await page.getByLabel('Key', { exact: true }).fill('k-123');
    await page.keyboard.press('Enter');
    await inMain(page, 'Welcome.').waitFor();
    assert.deepEqual(
      requests.map(({ key }) => key),
      [undefined, 'Bearer k-123'],
    );
    assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))).includes('k-123'));
  },
);

pageTest(
  'a refusal says what to do, and trying again works',
  {
    expected: /429/,
    answers: [
      refusalOf(429, 'This key may ask 2 times a minute.', { 'Retry-After': '12' }),
      answerOf({ text: 'Now.' }),
    ],
  },
  async (page) => {
    await askAndWait(page, 'Quick');
    assert.match(await page.locator('.failed').textContent(), /This key may ask 2 times a minute\.Try again in 12 s\./);
    await page.getByRole('button', { name: 'Try again' }).click();
    await inMain(page, 'Now.').waitFor();
    assert.equal(await page.locator('.failed').count(), 0);
  },
);

pageTest(
  'a lost connection is told until it is back; what had come stays',
  { expected: /ERR_CONNECTION|Failed to load/, answers: [answerOf({ text: 'Half an', finish: null }), 'cut'] },
  async (page) => {
    await page.route('**/health', (route) => route.abort('connectionrefused'));
    await askAndWait(page, 'Tell me');
    await inMain(page, 'The connection to the server is lost. This is what came until then.').waitFor();
    assert.equal(await answers(page).textContent(), 'Half an');
    await page.locator('#banner').getByText('No connection').waitFor();
    await page.getByRole('button', { name: 'Answer again' }).click();
    await page.locator('.failed').getByText('The connection to the server is lost.').waitFor();
    await page.unroute('**/health');
    await page.locator('#banner').waitFor({ state: 'hidden' });
  },
);

pageTest(
  'an answer that reached its limit says so',
  { answers: [answerOf({ text: 'And so', finish: 'length' })] },
  async (page) => {
    await askAndWait(page, 'Tell me');
    await inMain(page, 'The answer reached its greatest length.').waitFor();
  },
);

pageTest(
  'nothing moves for those who asked for calm',
  { reducedMotion: 'reduce', answers: [answerOf({ text: 'Calm.' })] },
  async (page) => {
    await page.route('**/v1/chat/completions', () => {}); // never answered
    await ask(page, 'Wait');
    await page.locator('.waiting').waitFor();
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  },
);
