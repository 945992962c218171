/**
 * Lets no process leave while a thread is inside SQLite. An app that calls `process.exit` ends its
 * threads wherever they are, and the npm driver answers that by aborting the whole process (exit
 * code 134 and a core dump, in half of all exits under load). So whoever leaves waits until the call
 * under way is over, and no thread begins another. Nothing is lost either way.
 */

/** Longest wait: a disk that hangs must not keep the process. */
const waitMs = 3_000

const isLeaving = 0
const threadsInside = 1

/** One for all threads of the process. */
let shared: SharedArrayBuffer | null = null

/** For the main thread, to hand to each thread it starts. */
export function sharedDoor(): SharedArrayBuffer {
  if (shared === null) {
    const buffer = new SharedArrayBuffer(8)
    const state = new Int32Array(buffer)
    process.once('exit', () => closeDoor(state))
    shared = buffer
  }
  return shared
}

function closeDoor(state: Int32Array): void {
  Atomics.store(state, isLeaving, 1)
  const untilMs = performance.now() + waitMs
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

  /** Runs work inside SQLite, unless the process is leaving: then nobody is there to be answered. */
  pass(work: () => void): void {
    Atomics.add(this.#state, threadsInside, 1)
    try {
      if (Atomics.load(this.#state, isLeaving) === 0) work()
    } finally {
      Atomics.sub(this.#state, threadsInside, 1)
      Atomics.notify(this.#state, threadsInside)
    }
  }
}
