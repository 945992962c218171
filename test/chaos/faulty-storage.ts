/**
 * A storage whose calls fail by the dice: before anything is done, or, for commits, after all is
 * done, so that the answer is lost. And one that can die: from then on it answers nothing, as the
 * disk of a process that was killed.
 */
import { type Storage, WebhookError } from '@k-msg/webhook'
import type { Store } from '../../src/storage/storage.ts'

export interface FaultyStorage extends Storage {
  /** Probability that a call fails. */
  faults: number
  /** As if the process had been killed at this moment; resolves when the file is free again. */
  die(): Promise<void>
}

/** The verbs whose failure the engine has to live with by itself; of others the caller is told. */
const untouched = new Set<string | symbol>(['close', 'heads', 'loadEndpoints', 'audit', 'watch'])

export function faultyStorage(inner: Storage, random: () => number): FaultyStorage {
  let opened: Store | null = null
  let isDead = false
  const never = new Promise<never>(() => {})

  const call = async (store: Store, verb: string, args: unknown[]): Promise<unknown> => {
    if (isDead) return never
    if (!untouched.has(verb) && random() < faulty.faults) {
      const isFull = random() < 0.5
      if (isFull) throw new WebhookError('STORAGE_FULL', 'Expected room; the dice say no.')
      // Done or not done: the caller cannot know.
      if (verb === 'commit' && random() < 0.5) await run(store, verb, args)
      throw new WebhookError('STORAGE_UNAVAILABLE', 'Expected an answer; the dice say no.')
    }
    const result = await run(store, verb, args)
    return isDead ? never : result
  }
  const run = (store: Store, verb: string, args: unknown[]): unknown =>
    Reflect.apply(store[verb as keyof Store] as () => unknown, store, args)

  const faulty: FaultyStorage = {
    kind: inner.kind,
    faults: 0,
    async open(host) {
      const store = await inner.open(host)
      opened = store
      return new Proxy(store, {
        get(target, verb) {
          const member = target[verb as keyof Store]
          if (typeof member !== 'function') return member
          return (...args: unknown[]) => call(target, String(verb), args)
        },
      })
    },
    async die() {
      isDead = true
      await opened?.close()
    },
  }
  return faulty
}
