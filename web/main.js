// Puts the parts together.
import { Announcer } from './announcer.js';
import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { ConversationList } from './conversation_list.js';
import { ConversationStore, exported, imported, newConversation } from './conversation_store.js';
import { askedKey, confirmed, told } from './dialogs.js';
import { byId, element } from './dom.js';
import { LivePanel } from './live_panel.js';
import { MessageList } from './message_list.js';
import { hasKey, isAlive, models, useKey } from './server.js';
import { SettingsPanel } from './settings_panel.js';
import { SidePanels } from './side_panels.js';
import { SitePanel } from './site_panel.js';
import { startThemeSwitch } from './theme_switch.js';

const kLookEveryMs = 2500;
const kIdeas = [
  'Explain what a heat pump does, simply',
  'Write a friendly note to a neighbour',
  'Three ideas for a quick dinner',
];

const store = await ConversationStore.open(() => {
  const kept = store.get(chat.conversation.id);
  if (kept && !chat.busy && kept.updated === chat.conversation.updated) chat.conversation = kept;
  else if (kept && !chat.busy) chat.open(kept);
  drawList();
});
const settings = new SettingsPanel(() => loadModels());
const composer = new Composer({ ask: (text) => chat.ask(text), stop: () => chat.stop() });
const messages = new MessageList({ again: () => chat.again(), edit: (text) => chat.edit(text) });
const announcer = new Announcer();
const chat = new Chat({ store, settings, messages, composer, announcer }, { changed, failed });
const polled = { live: new LivePanel(), site: new SitePanel((text) => announcer.say(text)) };
const list = new ConversationList({
  open: (id) => {
    show(store.get(id));
    composer.focus();
  },
  rename,
  remove,
});
const panels = new SidePanels((name, open) => {
  if (open) polled[name]?.open();
  else polled[name]?.close();
});

function drawList() {
  const title = chat.conversation.title || 'New conversation';
  list.draw(store.newestFirst(), chat.conversation.id);
  byId('title').textContent = title;
  document.title = chat.conversation.title ? `${title} – Hearth` : 'Hearth';
}

// A conversation has its address from its first question on.
function changed() {
  const address = `#${chat.conversation.id}`;
  if (store.get(chat.conversation.id) && location.hash !== address) history.replaceState(null, '', address);
  drawList();
}

// The address names the conversation, so that reloading and going back find it.
function show(conversation, push = true) {
  panels.closeOver();
  chat.open(conversation);
  const hash = store.get(conversation.id) ? `#${conversation.id}` : ' ';
  if (push) history.pushState(null, '', hash === ' ' ? location.pathname + location.search : hash);
  drawList();
}

const fromAddress = () => store.get(location.hash.slice(1)) ?? newConversation();

async function rename(id, title) {
  const conversation = store.get(id);
  if (conversation && conversation.title !== title)
    await store.put(Object.assign(conversation, { title })).catch(failed);
  drawList();
}

async function remove(id) {
  const { title } = store.get(id);
  if (!(await confirmed(`Delete “${title}”?`, 'It is kept in this browser only and cannot be brought back.', 'Delete')))
    return;
  if (id === chat.conversation.id) show(newConversation());
  chat.forget(id);
  await store.remove(id);
  drawList();
  byId('new-chat').focus();
}

function exportAll() {
  const address = URL.createObjectURL(new Blob([exported(store.newestFirst())], { type: 'application/json' }));
  element('a', { href: address, download: `hearth-${new Date().toISOString().slice(0, 10)}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

async function importFile(file) {
  try {
    const found = imported(await file.text());
    for (const conversation of found) await store.put(conversation);
    drawList();
    announcer.say(`${found.length} conversations imported`);
  } catch (error) {
    await told('Nothing was imported', error.message);
  }
}

async function loadModels() {
  polled.site.look();
  try {
    const found = await models();
    settings.showModels(found);
    if (!found.names.length) banner('There is no model yet. On the server, “hearth pull default” fetches one.');
  } catch (failure) {
    settings.showModels({ names: [] });
    failed(failure);
  }
  settings.keyShown();
}

// `failure` has been shown beside the question if it was one of an answer; some of them need more than that.
async function failed(failure) {
  if (failure.kind === 'gone') watchForReturn();
  else if (failure.kind === 'key') await askForKey();
  else if (!failure.kind) banner('This browser could not keep the conversation. Export it before you close the page.');
}

async function askForKey() {
  if (document.querySelector('dialog')) return;
  const given = await askedKey(hasKey());
  if (!given) return;
  useKey(given.key, given.keep);
  await loadModels();
  chat.retry();
}

function banner(text) {
  const shown = byId('banner');
  shown.hidden = !text;
  shown.replaceChildren(text ?? '');
}

let watching = false;
async function watchForReturn() {
  if (watching) return;
  watching = true;
  banner('No connection to the server. Waiting for it to come back …');
  while (!(await isAlive())) await new Promise((resolve) => setTimeout(resolve, kLookEveryMs));
  watching = false;
  banner(null);
  announcer.say('The server answers again');
  loadModels();
}

byId('ideas').append(
  ...kIdeas.map((idea) =>
    element(
      'button',
      {
        type: 'button',
        onclick: () => {
          composer.fill(idea);
          composer.focus();
        },
      },
      idea,
    ),
  ),
);
byId('new-chat').addEventListener('click', () => {
  show(newConversation());
  composer.focus();
});
byId('skip').addEventListener('click', () => composer.focus());
byId('export').addEventListener('click', exportAll);
byId('import').addEventListener('click', () => byId('import-file').click());
byId('import-file').addEventListener('change', async ({ target }) => {
  if (target.files[0]) await importFile(target.files[0]);
  target.value = '';
});
addEventListener('popstate', () => show(fromAddress(), false));
startThemeSwitch(byId('theme'));
show(fromAddress(), false);
if (!store.keeps) banner('This browser keeps nothing for this page: conversations last until it is closed.');
if (matchMedia('(min-width: 821px)').matches) composer.focus();
await loadModels();
