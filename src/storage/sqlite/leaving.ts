/**
 * Lets no process leave while a thread is inside SQLite. An app that calls `process.exit` ends its
 * threads wherever they are, and the npm driver answers that by aborting the whole process (exit
 * code 134 and a core dump, in half of all exits under load). So whoever leaves waits until the call
 * under way is over, and no thread begins another. Nothing is lost either way.
 */

import { Worker } from 'node:worker_threads'
import type { ThreadData } from './protocol.ts'

/** Longest wait: a disk that hangs must not keep the process. */
const waitMs = 3_000

const isLeaving = 0
const threadsInside = 1

/** One for each thread that is not known to have ended, shared with those it starts itself. */
const doors = new Set<Int32Array>()
let isWatched = false

/** Starts a thread that passes a door of its own, see `Door`. */
export function startThread(data: Omit<ThreadData, 'door'>, name: string): Worker {
  const buffer = new SharedArrayBuffer(8)
  const state = new Int32Array(buffer)
  if (!isWatched) process.once('exit', closeDoors)
  isWatched = true
  doors.add(state)
  const workerData = { ...data, door: buffer }
  const worker = new Worker(new URL(data.code), { workerData, name, ...ownFlags() })
  // It may have been ended inside, and can never come out then.
  worker.once('exit', () => doors.delete(state))
  return worker
}

/** Of `node --input-type=module -e …` a thread would inherit a flag that it cannot start with. */
function ownFlags(): { execArgv?: string[] } {
  const isInherited = process.execArgv.some((flag) => flag.startsWith('--input-type'))
  return isInherited ? { execArgv: [] } : {}
}

function closeDoors(): void {
  const untilMs = performance.now() + waitMs
  for (const state of doors) Atomics.store(state, isLeaving, 1)
  for (const state of doors) waitUntilEmpty(state, untilMs)
}

function waitUntilEmpty(state: Int32Array, untilMs: number): void {
  for (;;) {
    const inside = Atomics.load(state, threadsInside)
    const leftMs = untilMs - performance.now()
    if (inside <= 0 || leftMs <= 0) return
    Atomics.wait(state, threadsInside, inside, leftMs)
  }
}

/** A thread's side. */
export class Door {
  readonly #state: Int32Array

  constructor(buffer: SharedArrayBuffer) {
    this.#state = new Int32Array(buffer)
  }

  /**
   * Runs work inside SQLite.
   *
   * @returns null when the process is leaving: nothing was done, and nobody is there to be answered
   */
  pass<Result>(work: () => Result): Result | null {
    Atomics.add(this.#state, threadsInside, 1)
    try {
      return Atomics.load(this.#state, isLeaving) === 0 ? work() : null
    } finally {
      Atomics.sub(this.#state, threadsInside, 1)
      Atomics.notify(this.#state, threadsInside)
    }
  }
}
