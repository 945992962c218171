// Who takes part, with which settings. "plain" is what the documentation of each leads to
// with 100 requests in flight; "best" is the fastest that was found without giving up what the
// contender promises (README.md says what was tried).

/** What a running PostgreSQL has after its first minute: statistics and no dead rows. */
const TIDY_POSTGRES = ['-c', 'autovacuum_naptime=1s']

export const CONTENDERS = [
  { name: 'limit', module: 'limit', says: 'undici loop, both signatures, nothing stored' },
  { name: 'ours', module: 'ours', says: '@k-msg/webhook, SQLite FULL' },
  {
    name: 'ours-pg',
    module: 'ours',
    server: { kind: 'postgres' },
    says: '@k-msg/webhook, PostgreSQL 18, one process',
  },
  { name: 'fetch', module: 'fetch', says: 'global fetch loop, nothing stored' },
  {
    name: 'bullmq',
    module: 'bullmq',
    server: { kind: 'redis' },
    says: 'Redis AOF everysec, concurrency 100',
    settings: { workers: 1, concurrency: 100, client: 'ioredis' },
  },
  {
    name: 'bullmq-best',
    module: 'bullmq',
    server: { kind: 'redis' },
    says: 'the same with node-redis, 2 workers × 50',
    settings: { workers: 2, concurrency: 50, client: 'node-redis' },
  },
  {
    name: 'pg-boss',
    module: 'pg-boss',
    server: { kind: 'postgres' },
    says: '10 workers × batch 100, polling every 0.5 s',
    settings: { workers: 10, batchSize: 100, priority: true, notify: false },
  },
  {
    name: 'pg-boss-best',
    module: 'pg-boss',
    server: { kind: 'postgres', flags: TIDY_POSTGRES },
    says: '2 workers × batch 1,000, no priorities, notified',
    settings: { workers: 2, batchSize: 1000, priority: false, notify: true },
  },
  {
    name: 'graphile',
    module: 'graphile-worker',
    server: { kind: 'postgres' },
    says: 'concurrency 100, else defaults',
    settings: { concurrency: 100, worker: {} },
  },
  {
    name: 'graphile-best',
    module: 'graphile-worker',
    server: { kind: 'postgres', flags: TIDY_POSTGRES },
    says: 'local queue 500, batched completion',
    settings: {
      concurrency: 100,
      worker: { localQueue: { size: 500 }, completeJobBatchDelay: 50, failJobBatchDelay: 50 },
    },
  },
]

/** Takes part only where the cost of the guard is measured. */
export const UNGUARDED = { name: 'unguarded', module: 'unguarded', says: 'ours without the guard' }
