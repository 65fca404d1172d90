// The clients of npm run test:clients. A Python client's `env` is a lock of test/clients/python; a Node
// client's is a folder of its own lock, test/clients itself for "node".

/** usesTorch: of the trainer's packages, behind its own. */
const python = [
  { name: 'openai (Python)', env: 'core', program: 'openai_client.py', packages: ['openai'] },
  {
    name: 'LangChain',
    env: 'core',
    program: 'langchain_client.py',
    packages: ['langchain-openai'],
  },
  { name: 'LiteLLM', env: 'core', program: 'litellm_client.py', packages: ['litellm'] },
  {
    name: 'instructor',
    env: 'instructor',
    program: 'instructor_client.py',
    packages: ['instructor'],
  },
  { name: 'llm', env: 'core', program: 'llm_client.py', packages: ['llm'] },
  {
    name: 'lm-eval',
    env: 'core',
    program: 'lm_eval_client.py',
    packages: ['lm-eval'],
    patienceMs: 600_000,
  },
  {
    name: 'lm-eval beside its hf backend',
    env: 'lm-eval-hf',
    program: 'lm_eval_hf_client.py',
    packages: ['lm-eval', 'transformers'],
    usesTorch: true,
  },
]

const node = [
  { name: 'openai (Node)', env: 'node', program: 'openai.mjs', packages: ['openai'] },
  {
    name: 'AI SDK',
    env: 'node',
    program: 'ai-sdk.mjs',
    packages: ['ai', '@ai-sdk/openai', '@ai-sdk/openai-compatible'],
  },
  {
    name: 'Anthropic (Node)',
    env: 'node',
    program: 'anthropic.mjs',
    packages: ['@anthropic-ai/sdk'],
  },
]

const wide = [
  {
    name: 'Anthropic (Python)',
    env: 'wide',
    program: 'anthropic_client.py',
    packages: ['anthropic'],
  },
  {
    name: 'pydantic-ai',
    env: 'wide',
    program: 'pydantic_ai_client.py',
    packages: ['pydantic-ai-slim'],
  },
  { name: 'inspect-ai', env: 'wide', program: 'inspect_client.py', packages: ['inspect-ai'] },
  {
    name: "LiteLLM's proxy",
    env: 'litellm-proxy',
    program: 'litellm_proxy_client.py',
    packages: ['litellm'],
    patienceMs: 600_000,
  },
  { name: 'evalplus', env: 'evalplus', program: 'evalplus_client.py', packages: ['evalplus'] },
  {
    name: 'garak',
    env: 'garak',
    program: 'garak_client.py',
    packages: ['garak'],
    usesTorch: true,
    patienceMs: 600_000,
  },
  { name: 'promptfoo', env: 'promptfoo', program: 'promptfoo.mjs', packages: ['promptfoo'] },
  {
    name: "Open WebUI's back end",
    env: 'open-webui',
    program: 'open_webui_client.py',
    packages: ['open-webui'],
    usesTorch: true,
    patienceMs: 900_000,
  },
]

/** In the order of the page. */
export const clients = [
  ...[node[0], python[0], ...node.slice(1), ...python.slice(1)],
  ...wide.map((client) => ({ ...client, isWide: true })),
]
