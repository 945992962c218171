/**
 * The named steps of the journey at which a process can die. The package has no failpoints of its
 * own: the process under test hands in a storage and a dispatcher that are wrapped here.
 */

/** Runs at every step; `kill` is called at the chosen one. */
const verbs = {
  commit: {
    accept: (group) => group.accepts.length > 0,
    settle: (group) => group.settlements.length > 0,
    release: (group) => group.releases.length > 0,
  },
  claim: {
    claim: (_rooms, _nowMs, result) => result === undefined || result.claims.length > 0,
    seal: (rooms, _nowMs, result) =>
      rooms.some((room) => room.batch !== null) &&
      (result === undefined || result.claims.some((one) => one.members !== null)),
  },
  fanOut: { 'fan-out': () => true },
  cancelDeliveries: { cancel: () => true },
  saveEndpoint: { register: () => true },
  removeEndpoint: { remove: () => true },
  retryDelivery: { retry: () => true },
  createRepair: { 'repair-begin': () => true },
  stepRepair: { repair: () => true },
  cancelSome: { 'cancel-one': () => true },
  eraseEvents: { erase: () => true },
  prune: { prune: () => true },
  backup: { backup: () => true },
}

/** `before …`: the store has not been asked. `after …`: it has done it, and nobody knows. */
export const failpoints = [
  ...Object.values(verbs).flatMap((steps) =>
    Object.keys(steps).flatMap((step) => [`before ${step}`, `after ${step}`]),
  ),
  // The request has not been made; the answer is here and nothing is written.
  'before send',
  'after send',
]

export function killSelf() {
  process.kill(process.pid, 'SIGKILL')
}

/** @param {string | null} at a failpoint @param {number} nth dies when it is reached that often */
export function dieAt(at, nth) {
  let reached = 0
  return (point) => {
    if (point !== at) return
    reached += 1
    if (reached === nth) killSelf()
  }
}

/** @param observe called with `(verb, args, result)` after every answer */
export function watchedStorage(storage, reach, observe = () => {}) {
  const watch = (store) =>
    new Proxy(store, {
      get(target, verb) {
        const call = target[verb]
        if (typeof call !== 'function') return call
        const steps = Object.entries(verbs[verb] ?? {})
        return async (...args) => {
          for (const [step, fits] of steps) if (fits(...args)) reach(`before ${step}`)
          const result = await call.apply(target, args)
          for (const [step, fits] of steps) if (fits(...args, result)) reach(`after ${step}`)
          observe(verb, args, result)
          return result
        }
      },
    })
  return { kind: storage.kind, open: async (host) => watch(await storage.open(host)) }
}

/** A dispatcher that reaches failpoints around every attempt. */
export function watchedDispatcher(WebhookDispatcher, reach, observe = () => {}) {
  return class extends WebhookDispatcher {
    attempt(request, done) {
      reach('before send')
      observe(request)
      super.attempt(request, (report) => {
        reach('after send')
        done(report)
      })
    }
  }
}
