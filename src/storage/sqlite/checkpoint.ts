/**
 * Moves committed pages from the log (WAL) into the database, apart from the commits that wrote
 * them. A thread beside the writer does it: on the writer's own, a checkpoint of 4 MiB held up the
 * commits behind it for 15 ms. The writer only looks how long the log is, and once it has grown past
 * a limit begins it anew itself, which also slows down whoever fills it.
 */
import { parentPort, type Worker } from 'node:worker_threads'
import type { Connection } from './connection.ts'
import { type ErrorOnWire, errorToWire, storageError } from './errors.ts'
import type { Door } from './leaving.ts'

/** Pages of 4 KiB. Below this a checkpoint would write the same pages again and again. */
const worthwhilePages = 1_000
/** 64 MiB. */
const forcedPages = 16_384

interface LogState {
  readonly log: number
  readonly checkpointed: number
}

/** The writer's end. */
export class Checkpoints {
  readonly #connection: Connection
  readonly #start: () => Worker
  readonly #onFailure: (error: ErrorOnWire) => void
  /** Most services that live for seconds never fill a log that is worth one. */
  #thread: Worker | null = null
  #ended: Promise<void> = Promise.resolve()
  #isRunning = false
  /** What the last one met: said once and not again with every try, until one succeeds. */
  #failure: string | undefined
  #forcedAtPages = forcedPages
  /** How long the log was when scrubbing it was last tried in vain, or looked at since. */
  #scrubSeenPages = -1

  /**
   * @param start of a thread that runs `serveCheckpoints`; called when there is something to do
   * @param onFailure gets what a checkpoint met; a disk that fails is fatal there too
   */
  constructor(
    connection: Connection,
    start: () => Worker,
    onFailure: (error: ErrorOnWire) => void,
  ) {
    this.#connection = connection
    this.#start = start
    this.#onFailure = onFailure
  }

  /** Called when nothing waits to be committed. */
  look(): void {
    const state = this.#connection.get<LogState>('pragma wal_checkpoint(noop)')
    if (state === undefined) return
    if (state.log >= this.#forcedAtPages) this.#beginLogAnew(state.log)
    else if (!this.#isRunning && state.log - state.checkpointed >= worthwhilePages) {
      this.#isRunning = true
      this.#thread ??= this.#started()
      this.#thread.postMessage('checkpoint')
    }
  }

  /**
   * Empties the log, so that what it still holds of replaced secrets is gone. A long read can be in
   * the way, and commits are not held up for it: it is tried again once the log stands still or has
   * grown a good deal, since every attempt moves what is new.
   *
   * @returns whether it is empty
   */
  scrub(): boolean {
    const pages = this.#connection.get<LogState>('pragma wal_checkpoint(noop)')?.log ?? 0
    const seen = this.#scrubSeenPages
    this.#scrubSeenPages = pages
    if (seen >= 0 && pages > seen && pages - seen < worthwhilePages) return false
    const state = this.#connection.waiting(0, () =>
      this.#connection.get<{ busy: number }>('pragma wal_checkpoint(truncate)'),
    )
    if (state?.busy !== 0) return false
    this.#scrubSeenPages = -1
    return true
  }

  /** A checkpoint under way is let finish: a thread must not be ended inside SQLite. */
  close(): Promise<void> {
    this.#thread?.postMessage('close')
    return this.#ended
  }

  /** If it ends by itself no other is started: the writer begins the log anew, see `look`. */
  #started(): Worker {
    const thread = this.#start()
    this.#ended = new Promise((resolve) => thread.once('exit', () => resolve()))
    thread.on('message', (error: ErrorOnWire | null) => {
      this.#isRunning = false
      if (error && error.message !== this.#failure) this.#onFailure(error)
      this.#failure = error?.message
    })
    thread.on('error', (error) => this.#onFailure(errorToWire(error as Error)))
    return thread
  }

  #beginLogAnew(pages: number): void {
    // A long read holds on to the log; it is not waited for, and tried again when there is more.
    const state = this.#connection.waiting(0, () =>
      this.#connection.get<{ busy: number }>('pragma wal_checkpoint(restart)'),
    )
    this.#forcedAtPages = state?.busy === 0 ? forcedPages : pages + worthwhilePages
  }
}

/** The checkpoint thread's own end. */
export function serveCheckpoints(connection: Connection, location: string, door: Door): void {
  const port = parentPort
  port?.on('message', (message: 'checkpoint' | 'close') => {
    if (message === 'close') {
      door.pass(() => connection.close())
      port.close()
      return
    }
    try {
      door.pass(() => connection.get('pragma wal_checkpoint(passive)'))
      port.postMessage(null)
    } catch (error) {
      port.postMessage(errorToWire(storageError(error, location)))
    }
  })
}
