/** One process that dies at one named step, another that finishes, and the two ledgers. */
import { once } from 'node:events'
import { expect } from 'vitest'
import { type ChildOptions, Site } from './site.ts'

interface Plan extends Omit<ChildOptions, 'mode' | 'crashAt'> {
  readonly steps: readonly string[]
  /** Requests that are meant to be made a second time. */
  readonly replays?: number
  /** Retention may have taken events. */
  readonly forgets?: boolean
  readonly wide?: boolean
  /** Somebody may have cancelled a delivery. */
  readonly cancels?: boolean
}

/** Three rounds, so that every step of them is reached three times. */
const rounds = Array(3).fill(['publish', 'drain']).flat()
const publish: Plan = { steps: ['register', ...rounds] }
const doomed: Plan = { steps: ['register', 'doomed'] }

const replay: Plan = { steps: ['register', 'publish', 'drain', 'replay', 'drain'], replays: 12 }

/** What the process does, so that the step is surely reached. */
export const plans: Record<string, Plan> = {
  accept: publish,
  settle: publish,
  claim: publish,
  seal: publish,
  send: publish,
  release: {
    steps: ['register', 'publishMany', 'pauseAndResume', 'drain'],
    config: { endpointConcurrency: 1 },
  },
  'fan-out': { steps: ['wide', 'drain'], wide: true },
  cancel: doomed,
  remove: doomed,
  register: { steps: ['register', 'publish', 'pauseAndResume', 'drain'] },
  retry: { steps: ['register', 'publish', 'drain', 'retry', 'drain'], replays: 1 },
  'repair-begin': replay,
  repair: replay,
  'cancel-one': { steps: ['register', 'cancelOne', 'drain'], cancels: true },
  erase: { steps: ['register', 'publish', 'drain', 'erase'] },
  backup: { steps: ['register', 'publish', 'backup', 'drain'] },
  prune: {
    steps: ['register', 'publish', 'drain', 'prune'],
    config: { retention: { settledMs: 0, deliveredBodiesMs: 0, eventIdsMs: 0 } },
    pruneAtOnce: true,
    forgets: true,
  },
}

/** A file with thousands of endpoints takes seconds to make; each run starts from a copy. */
export async function makeWideFile(site: Site): Promise<string> {
  const child = site.start({ mode: 'steps', steps: ['registerWide'] })
  expect(await once(child, 'close')).toEqual([0, null])
  return site.dataFile
}

/** Runs the plan until the process dies at the point, lets another finish, and compares. */
export async function dieOnce(
  point: string,
  nth: number,
  wideFile: string,
  plan = plans[point.split(' ')[1] ?? ''],
): Promise<void> {
  if (plan === undefined) throw new Error(`no plan reaches "${point}"`)
  await using site = await Site.open()
  if (plan.wide) site.startFrom(wideFile)
  const child = site.start({ mode: 'steps', ...plan, crashAt: point, nth })
  const [code, signal] = await once(child, 'close')
  expect([code, signal], 'the process has to die at the point').toEqual([null, 'SIGKILL'])
  const inFlight = site.inFlight
  const finished = await site.finish(plan.config === undefined ? {} : { config: plan.config })
  expect(finished).toMatchObject({
    problems: [],
    unended: [],
    backlog: { waiting: 0, delivering: 0 },
  })
  if (!plan.forgets) expect(finished.forgotten).toEqual([])
  // Whenever it died: what was begun is through, each event queued once.
  for (const repair of finished.repairs) expect(repair).toMatchObject({ state: 'done', queued: 12 })
  const verdict = site.judge()
  expect(verdict).toMatchObject({ unexpected: [], badSignatures: 0 })
  if (!plan.cancels) expect(verdict).toMatchObject({ lost: [], half: [] })
  expect(verdict.lost.length).toBeLessThanOrEqual(plan.cancels ? 1 : 0)
  expect(verdict.duplicates).toBeLessThanOrEqual(inFlight + (plan.replays ?? 0))
  if (!plan.wide) return
  expect(verdict.accepted > 0 ? [2_100] : [0, 2_100]).toContain(site.wideReached)
}
