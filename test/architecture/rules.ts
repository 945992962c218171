// Owns the direction of imports: which part of src/ may know which other, and which packages. A part
// is a folder of src/ (the storages of one database each are parts of their own) or a file right in
// src/. Whatever has no row here may not exist.

/** `type x` allows imports that vanish when compiled: the part is known, not needed. */
interface Row {
  parts: readonly string[]
  packages?: readonly string[]
  /** Modules of Node; pure parts have none, because they do no I/O and know no clock. */
  node?: 'none'
}

const belowEngine = ['model', 'policy', 'security', 'storage'] as const
const journey = ['registry', 'accept', 'schedule', 'record'] as const
/** The parts of the journey are put together by the engine; by themselves they share only shapes. */
const shapes = [...journey, 'deliver'].map((part) => `type ${part}`)
const composed = [...belowEngine, ...journey, 'deliver', 'observe', 'engine'] as const

export const table: Record<string, Row> = {
  model: { parts: [] },
  policy: { parts: ['model'], node: 'none' },
  security: { parts: ['model'] },
  storage: { parts: ['model', 'type policy'] },
  'storage/sqlite': { parts: ['model', 'storage'], packages: ['@photostructure/sqlite'] },
  'storage/postgres': { parts: ['model', 'storage'], packages: ['pg'] },
  deliver: { parts: ['model', 'policy', 'security'] },
  registry: { parts: [...belowEngine, ...shapes] },
  accept: { parts: [...belowEngine, ...shapes] },
  schedule: { parts: [...belowEngine, ...shapes] },
  record: { parts: [...belowEngine, ...shapes] },
  observe: { parts: ['model', 'policy', 'storage'], packages: ['@opentelemetry/api'] },
  // Reads one kind of store and writes the other, so it is the only part that needs both.
  moving: { parts: ['model', 'storage', 'storage/sqlite', 'storage/postgres'] },
  engine: { parts: [...belowEngine, ...journey, 'deliver', 'observe'] },
  service: { parts: [...composed, 'storage/sqlite', 'type storage/postgres'] },
  index: { parts: [...composed, 'storage/sqlite', 'service'] },
  testing: { parts: ['model', 'policy', 'security', 'storage', 'deliver', 'index'] },
  'k-msg': { parts: ['model', 'index'], packages: ['zod'] },
  receiver: { parts: ['model', 'security'] },
  server: {
    parts: ['model', 'index', 'service', 'k-msg'],
    packages: ['hono', '@hono/node-server', '@hono/zod-openapi', 'zod', 'pino'],
  },
  cli: {
    parts: [
      'index',
      'moving',
      'security',
      'type storage',
      'server',
      // For what no service may ask.
      'storage/sqlite',
      'storage/postgres',
      'testing',
    ],
    packages: ['commander', '@clack/prompts'],
  },
}

/** Names that say nothing about what is inside; a small function lives with its one user. */
export const emptyNames = ['utils', 'util', 'helpers', 'common', 'shared', 'lib', 'types', 'misc']
