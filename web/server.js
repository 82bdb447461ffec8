// The requests of this page to its server, and their failures in words for people.
import { events } from './event_stream.js';
import { remember, remembered } from './preferences.js';

// `kind`: "key", "gone" (no connection), "busy" or "refused". `advice` says what to do.
export class Failure extends Error {
  constructor(kind, message, advice) {
    super(message);
    this.kind = kind;
    this.advice = advice;
  }
}

let key = remembered('key', '');
export const hasKey = () => key !== '';
export function useKey(value, keep) {
  key = value;
  remember('key', keep && value ? value : null);
}

async function ask(path, body, signal) {
  const headers = { Accept: 'application/json' };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers['Content-Type'] = 'application/json';
  let answer;
  try {
    // Relative to the page, so that it works below a path of a proxy, too.
    answer = await fetch(path, {
      method: body ? 'POST' : 'GET',
      headers,
      body: body && JSON.stringify(body),
      signal,
      cache: 'no-store',
    });
  } catch (error) {
    throw signal?.aborted ? error : connectionLost();
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

const connectionLost = () =>
  new Failure('gone', 'The connection to the server is lost.', 'Is it still running? Try again once it answers.');

async function refusal(answer) {
  let said = '';
  try {
    const { error } = await answer.json();
    said = String(error?.message ?? error ?? '');
  } catch {
    /* no JSON: the status has to do */
  }
  const wait = Number(answer.headers.get('Retry-After'));
  const later = wait > 0 ? `Try again in ${wait} s.` : 'Try again in a moment.';
  const [kind, message, advice] =
    {
      401: ['key', 'The server asks for a key.', 'Try again to enter it.'],
      403: ['refused', 'This is not allowed.', 'Another key may allow it; so may another model.'],
      404: ['refused', 'The server does not have that.', 'Choose another model at the top.'],
      413: ['refused', 'The conversation is too long for this server.', 'Start a new one, or shorten the question.'],
      429: ['busy', 'Too many requests.', later],
      503: ['busy', 'The server is busy.', later],
    }[answer.status] ??
    (answer.status < 500
      ? ['refused', 'The server refused this.', 'Change the question or the settings and try again.']
      : ['refused', `The server failed (status ${answer.status}).`, 'Its log says more.']);
  return new Failure(kind, said || message, advice);
}

export const isAlive = () =>
  fetch('health', { cache: 'no-store' }).then(
    (answer) => answer.ok,
    () => false,
  );

// { names, usual }: those that can chat, and which of them to begin with.
export async function models() {
  const [{ data }, now] = await Promise.all([
    ask('v1/models').then((answer) => answer.json()),
    status().catch(() => null),
  ]);
  const names = (data ?? []).filter((model) => !model.meta?.embedding).map((model) => String(model.id));
  const loaded = now?.models.map((model) => model.name) ?? [];
  return { names, usual: [now?.default_model, ...loaded].find((name) => names.includes(name)) };
}

export const status = async () => (await ask('api/hearth/status')).json();
export const site = async () => (await ask('v1/site')).json();

// Yields { reasoning }, { text } and at last { finish, figures }. Aborting the signal cancels the answer in the server.
export async function* chat(request, signal) {
  const answer = await ask(
    'v1/chat/completions',
    { ...request, stream: true, stream_options: { include_usage: true } },
    signal,
  );
  let finish = null,
    figures = null;
  try {
    for await (const data of events(answer.body)) {
      if (data === '[DONE]') continue; // the end of the body follows
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Failure('refused', String(chunk.error.message ?? chunk.error), 'Try again.');
      const choice = chunk.choices?.[0];
      if (choice?.delta?.reasoning_content) yield { reasoning: choice.delta.reasoning_content };
      if (choice?.delta?.content) yield { text: choice.delta.content };
      finish = choice?.finish_reason ?? finish;
      if (chunk.usage) {
        figures = {
          tokens: chunk.usage.completion_tokens,
          prompt: chunk.usage.prompt_tokens,
          cached: chunk.usage.prompt_tokens_details?.cached_tokens,
          perSecond: chunk.timings?.predicted_per_second,
        };
      }
    }
  } catch (error) {
    if (signal?.aborted || error instanceof Failure) throw error;
    throw error instanceof SyntaxError
      ? new Failure('refused', 'The server sent something that is no answer.', 'Try again.')
      : connectionLost();
  }
  if (!finish) throw connectionLost();
  yield { finish, figures };
}
