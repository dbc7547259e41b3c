// OpenAI's own SDK for Node against `/v1`; test_openai_node.py starts the gateway and runs this file.
// BASE_URL, API_KEY and MODEL come from the environment.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model } = process.env;
const messages = [{ role: 'user', content: 'Say hello.' }];
const small = { model, messages, max_tokens: 12 };

// Without retries: a first answer that is wrong must be seen.
const sdk = (key) => new OpenAI({ baseURL, apiKey: key, maxRetries: 0, timeout: 90_000 });
const client = sdk(apiKey);

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const refusal = (kind, code) => (error) => {
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  if (code) assert.equal(error.code, code);
  assert.ok(error.requestID);
  return true;
};

test('an answer', async () => {
  const answer = await client.chat.completions.create(small);
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  assert.ok(answer._request_id);
});

test('a stream', async () => {
  const chunks = await collect(await client.chat.completions.create({ ...small, stream: true }));
  assert.ok(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join(''));
  assert.match(chunks.at(-1).choices[0].finish_reason, /^(stop|length)$/);
});

test('usage at the end of a stream', async () => {
  const asked = { ...small, stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await client.chat.completions.create(asked));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.ok(chunks.at(-1).usage.total_tokens > 0);
});

test('models', async () => {
  const listed = [];
  for await (const { id } of client.models.list()) listed.push(id);
  assert.ok(listed.some((id) => id.includes(model)));
  assert.equal((await client.models.retrieve(model)).object, 'model');
});

test('a wrong key', async () => {
  const stranger = sdk(`freellmapi-${'0'.repeat(48)}`);
  await assert.rejects(
    stranger.chat.completions.create(small),
    refusal(OpenAI.AuthenticationError, 'invalid_api_key'),
  );
});

test('an unknown model', async () => {
  await assert.rejects(
    client.chat.completions.create({ ...small, model: 'no-such-model' }),
    refusal(OpenAI.NotFoundError, 'model_not_found'),
  );
});

test('invalid parameters', async () => {
  for (const wrong of [{ temperature: 3 }, { messages: [] }]) {
    await assert.rejects(
      client.chat.completions.create({ ...small, ...wrong }),
      refusal(OpenAI.BadRequestError),
    );
  }
});
