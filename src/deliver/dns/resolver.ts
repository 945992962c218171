/**
 * From a name to all of its addresses: hosts file, cache, DNS, and for names that may be private the
 * system's resolver. One question per name at a time, however many connections wait for it, and one
 * limit on its time. It judges no address: whoever connects checks every one of them, cached or not.
 */
import { type LookupAddress, promises } from 'node:dns'
import type { LookupAll, SetTimer } from '../attempt-request.ts'
import { HostsFile } from './hosts-file.ts'
import { type Answer, ask, type DnsClient, meansAbsent } from './question.ts'
import { SystemLookup } from './system-lookup.ts'

export interface ResolverOptions {
  /** `address` or `address:port`; the system's when empty. */
  readonly servers: readonly string[]
  readonly timeoutMs: number
  /** Ask the system about names that DNS says do not exist. */
  readonly askSystem: boolean
  readonly monotonicMs: () => number
  readonly setTimer: SetTimer
  readonly createClient?: ((servers: readonly string[]) => DnsClient) | undefined
  readonly hosts?: Pick<HostsFile, 'find'> | undefined
  readonly system?: Pick<SystemLookup, 'lookup'> | undefined
}

interface Cached {
  readonly answer: Answer
  readonly untilMs: number
}

interface Pending {
  readonly waiting: Parameters<LookupAll>[1][]
}

const maxCachedNames = 10_000
/** Of one name. Longer answers serve those who wait for them and are forgotten. */
const maxCachedAddresses = 32
/** Of one name, both families together: a TCP answer has room for 4,000, a receiver no use for them. */
const maxAddresses = 256
/** A receiver that moves is followed within this time, whatever its records promise. */
const maxTtlMs = 300_000
/** A dead name costs one question in this time, not one for each attempt. */
const failureTtlMs = 5_000
/** After so long, trouble may mean that the machine has other name servers by now. */
const clientAgeMs = 30_000

export class Resolver {
  readonly #options: ResolverOptions
  readonly #hosts: Pick<HostsFile, 'find'>
  readonly #system: Pick<SystemLookup, 'lookup'>
  readonly #cache = new Map<string, Cached>()
  readonly #pending = new Map<string, Pending>()
  #client: DnsClient | null = null
  #clientSinceMs = 0
  #closed = false

  constructor(options: ResolverOptions) {
    this.#options = options
    this.#hosts = options.hosts ?? new HostsFile(options.monotonicMs)
    this.#system = options.system ?? new SystemLookup()
  }

  /** Never calls back before it has returned. */
  readonly lookup: LookupAll = (hostname, callback) => {
    const name = hostname.toLowerCase()
    const listed = this.#hosts.find(name)
    const known: Answer | undefined =
      listed === undefined ? this.#cached(name) : { addresses: listed, ttlMs: 0 }
    if (known !== undefined) queueMicrotask(() => tell(known, [callback]))
    else this.#join(name, callback)
  }

  /** Ends every question that is under way. */
  close(): void {
    this.#closed = true
    this.#client?.cancel()
  }

  #cached(name: string): Answer | undefined {
    const cached = this.#cache.get(name)
    if (cached === undefined) return undefined
    if (this.#options.monotonicMs() < cached.untilMs) return cached.answer
    this.#cache.delete(name)
    return undefined
  }

  #join(name: string, callback: Parameters<LookupAll>[1]): void {
    const pending = this.#pending.get(name)
    if (pending !== undefined) {
      pending.waiting.push(callback)
      return
    }
    this.#pending.set(name, { waiting: [callback] })
    let leaveSystem = (): void => {}
    let inTime = true
    const cancelTimer = this.#options.setTimer(() => {
      inTime = false
      leaveSystem()
      this.#end(name, { error: timedOut(this.#options.timeoutMs) })
    }, this.#options.timeoutMs)
    const end = (found: Answer): void => {
      const answer = bounded(found)
      cancelTimer()
      if (inTime) this.#end(name, answer)
      // Too late for those who waited, in time for their next attempt.
      else if ('addresses' in answer) this.#keep(name, answer)
    }
    const answered = (answer: Answer): void => {
      const askSystem = this.#options.askSystem && inTime && !this.#closed
      if (!askSystem || 'addresses' in answer || !meansAbsent(answer.error)) {
        end(answer)
        return
      }
      leaveSystem = this.#system.lookup(name, (error, addresses) =>
        end(error === null && addresses.length > 0 ? { addresses, ttlMs: failureTtlMs } : answer),
      )
    }
    this.#ask(name).then(answered, (error: NodeJS.ErrnoException) => end({ error }))
  }

  async #ask(name: string): Promise<Answer> {
    const { setTimer } = this.#options
    const answer = await ask(this.#currentClient(), name, setTimer)
    if ('error' in answer && !meansAbsent(answer.error)) this.#renewClient()
    return answer
  }

  #currentClient(): DnsClient {
    if (this.#client === null) {
      const { createClient = createDnsClient, servers, monotonicMs } = this.#options
      this.#client = createClient(servers)
      this.#clientSinceMs = monotonicMs()
    }
    return this.#client
  }

  /** A client reads the system's name servers once, when it is made. */
  #renewClient(): void {
    const ageMs = this.#options.monotonicMs() - this.#clientSinceMs
    if (!this.#closed && this.#options.servers.length === 0 && ageMs > clientAgeMs) {
      this.#client = null
    }
  }

  #end(name: string, answer: Answer): void {
    const pending = this.#pending.get(name)
    this.#pending.delete(name)
    this.#keep(name, answer)
    tell(answer, pending?.waiting ?? [])
  }

  #keep(name: string, answer: Answer): void {
    const ttlMs = 'error' in answer ? failureTtlMs : Math.min(answer.ttlMs, maxTtlMs)
    // Who says 0 means it: whoever connects next asks again.
    if (ttlMs <= 0 || this.#closed) return
    if ('addresses' in answer && answer.addresses.length > maxCachedAddresses) return
    this.#cache.delete(name)
    const [oldest] = this.#cache.keys()
    if (this.#cache.size >= maxCachedNames && oldest !== undefined) this.#cache.delete(oldest)
    this.#cache.set(name, { answer, untilMs: this.#options.monotonicMs() + ttlMs })
  }
}

function createDnsClient(servers: readonly string[]): DnsClient {
  // 0.5 + 1 + 2 s with one server: a datagram that is lost costs half a second, not the whole limit.
  const client = new promises.Resolver({ timeout: 500, tries: 3 })
  if (servers.length > 0) client.setServers(servers)
  return client
}

function tell(answer: Answer, callbacks: readonly Parameters<LookupAll>[1][]): void {
  const [error, addresses]: [NodeJS.ErrnoException | null, readonly LookupAddress[]] =
    'error' in answer ? [answer.error, []] : [null, answer.addresses]
  for (const callback of callbacks) callback(error, addresses)
}

/** Leaving some out would be no answer: every address of a name is checked. */
function bounded(answer: Answer): Answer {
  if ('error' in answer || answer.addresses.length <= maxAddresses) return answer
  const got = `${answer.addresses.length} addresses, more than ${maxAddresses}`
  return { error: Object.assign(new Error(got), { code: 'TOO_MANY_ADDRESSES' }) }
}

function timedOut(afterMs: number): NodeJS.ErrnoException {
  return Object.assign(new Error(`no answer of DNS after ${afterMs} ms`), { code: 'ETIMEOUT' })
}
