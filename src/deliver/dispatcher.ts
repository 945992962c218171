/**
 * WebhookDispatcher: makes one signed attempt. It decides nothing about what comes after, and knows
 * no store. Building one opens nothing; the first attempt does.
 */
import type { EndpointRecord, WebhookEndpointInput } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { WebhookEvent } from '../model/event.ts'
import { serialiseEvent } from '../model/event-body.ts'
import { checkOptions } from '../model/given.ts'
import type { Outcome } from '../model/outcome.ts'
import { packageVersion } from '../model/version.ts'
import { AddressRule } from '../security/address.ts'
import { SecurityManager } from '../security/security-manager.ts'
import type {
  AttemptReport,
  AttemptRequest,
  DispatcherOptions,
  SetTimer,
} from './attempt-request.ts'
import { createConnect } from './connect.ts'
import { Connections } from './connections.ts'
import { Deadlines } from './deadlines.ts'
import { Resolver } from './dns/resolver.ts'
import { Exchange, type ExchangeTools } from './exchange.ts'
import { checkNetworkOptions, checkUserAgent, parseProxy } from './network-options.ts'
import { type PreparedEndpoint, prepare } from './prepare.ts'
import { RequestHeads } from './request-head.ts'
import { checkAddressesAreKept } from './self-check.ts'
import { type DispatchResult, recordOf, resultOf } from './single-dispatch.ts'
import { TlsIdentities } from './tls-identity.ts'

/** Where `dispatch` looks an id up; a WebhookRegistry is one. */
export interface EndpointLookup {
  get(id: string): unknown
  /** @internal */
  find(id: string): EndpointRecord | undefined
}

/** Ended by `abortAll` or refused after `close`: says nothing about the receiver. */
export const abortedCode = 'ABORTED'

const defaultTimeoutMs = 30_000
const defaultConnectTimeoutMs = 5_000
/** Below the limit of the whole connection: what was too slow should have a name. */
const defaultDnsTimeoutMs = 4_000

const knownOptions = [
  'allowedNetworks',
  'redirects',
  'timeoutMs',
  'maxConnections',
  'connectTimeoutMs',
  'idleConnectionMs',
  'userAgent',
  'nowMs',
  'monotonicMs',
  'setTimer',
  'lookup',
  'tls',
  'proxy',
  'dns',
] as const satisfies readonly (keyof DispatcherOptions)[]

const systemTimer: SetTimer = (callback, delayMs) => {
  // What is waited for holds a socket, and that keeps the process alive; a timer need not.
  const timer = setTimeout(callback, delayMs).unref()
  return () => clearTimeout(timer)
}

/**
 * @example
 * const dispatcher = new WebhookDispatcher()
 * await dispatcher.dispatch(event, { id: 'shop', url, events: ['*'], secret })
 */
export class WebhookDispatcher<Retry = unknown> {
  readonly registry: EndpointLookup | undefined
  readonly securityManager: SecurityManager
  /** Not used here: a service built on this dispatcher takes its rules. */
  readonly retryManager: Retry | undefined
  #options: DispatcherOptions
  #addresses: AddressRule
  #identities: TlsIdentities
  /** From the first attempt on. */
  #tools: ExchangeTools | null = null
  #resolver: Resolver | null = null
  #checked: Promise<void> | null = null
  /** By identity: every change of an endpoint makes a new record. */
  #prepared = new WeakMap<EndpointRecord, PreparedEndpoint>()
  readonly #exchanges = new Set<Exchange>()
  /** An attempt that fails before `attempt` has returned reports a little later. */
  #starting = false
  #closing: Promise<void> | null = null
  #whenIdle: (() => void) | null = null

  /** @throws WebhookError OPTION_INVALID, OPTION_UNKNOWN, OPTION_OUT_OF_RANGE */
  constructor(
    registry?: EndpointLookup,
    securityManager?: SecurityManager,
    retryManager?: Retry,
    options: DispatcherOptions = {},
  ) {
    this.registry = registry
    this.securityManager = securityManager ?? new SecurityManager()
    this.retryManager = retryManager
    checkOptions(options, knownOptions, 'WebhookDispatcher')
    checkNetworkOptions(options)
    checkUserAgent(options.userAgent)
    this.#options = definedOnly(options)
    this.#addresses = new AddressRule(options.allowedNetworks)
    this.#identities = new TlsIdentities(options.tls?.ca)
  }

  /** Attempts under way, those that wait for a connection included. */
  get inFlight(): number {
    return this.#exchanges.size
  }

  /**
   * Fills in what the constructor was not given. Has no effect on options it was given.
   *
   * @throws WebhookError OPTION_INVALID, OPTION_UNKNOWN, OPTION_OUT_OF_RANGE
   */
  configure(options: DispatcherOptions): void {
    checkNetworkOptions(options)
    checkUserAgent(options.userAgent)
    this.#options = { ...definedOnly(options), ...this.#options }
    this.#addresses = new AddressRule(this.#options.allowedNetworks)
    this.#identities = new TlsIdentities(this.#options.tls?.ca)
    this.#prepared = new WeakMap()
    // Connections opened under the former rules must not outlive them.
    void this.#tools?.connections.close()
    this.#resolver?.close()
    this.#tools = null
  }

  /**
   * Resolves when it is proven that the runtime connects to the addresses that were checked, and to no
   * others. A service calls it before it starts.
   *
   * @throws WebhookError GUARD_BYPASSED
   */
  ready(): Promise<void> {
    this.#checked ??= checkAddressesAreKept()
    return this.#checked
  }

  /**
   * Makes one attempt. Never throws, and calls `done` exactly once, never before it has returned.
   * What the endpoint itself rules out is reported, too: `blocked` for its URL, `unreachable` with
   * the code of a WebhookError for its headers or secret.
   */
  attempt(request: AttemptRequest, done: (report: AttemptReport) => void): void {
    if (this.#closing !== null) {
      this.#refuse({ kind: 'unreachable', code: abortedCode }, done)
      return
    }
    this.#tools ??= this.#start()
    let prepared: PreparedEndpoint
    try {
      prepared = this.#prepare(request.endpoint)
    } catch (error) {
      this.#refuse(refusal(error, request.endpoint), done)
      return
    }
    const exchange = new Exchange(request, prepared, this.#tools, done)
    this.#exchanges.add(exchange)
    this.#starting = true
    this.#tools.connections.take(exchange)
    this.#starting = false
  }

  /**
   * Makes one attempt for an event, outside of any service: nothing is stored or retried.
   *
   * @param endpoint an endpoint, or the id of one in the registry
   * @throws WebhookError ENDPOINT_NOT_FOUND, SECRET_MISSING, GUARD_BYPASSED, and those of a malformed
   *   event, URL, header or secret; an attempt that fails resolves with `success: false`
   */
  async dispatch(
    event: WebhookEvent,
    endpoint: WebhookEndpointInput | string,
  ): Promise<DispatchResult> {
    const record = typeof endpoint === 'string' ? this.#find(endpoint) : recordOf(endpoint)
    this.#prepare(record)
    if (record.secrets.length === 0) {
      throw new WebhookError(
        'SECRET_MISSING',
        `Expected endpoint "${record.id}" to have a \`secret\` to sign with, got none; give it the one its receiver has.`,
      )
    }
    const request: AttemptRequest = {
      deliveryId: `dlv_${event.id}`,
      attempt: 1,
      eventId: event.id,
      eventType: event.type,
      body: Buffer.from(serialiseEvent(event).body),
      endpoint: record,
      fallbackSecret: null,
      timeoutMs: record.timeoutMs ?? this.#options.timeoutMs ?? defaultTimeoutMs,
      enableSecurity: true,
    }
    await this.ready()
    return await new Promise((resolve) => {
      this.attempt(request, (report) => resolve(resultOf(report)))
    })
  }

  /** Ends every attempt under way; each reports what it knows, or `unreachable` with `ABORTED`. */
  abortAll(): void {
    for (const exchange of [...this.#exchanges]) exchange.abort(abortedCode)
  }

  /**
   * Takes no more attempts, lets those under way end within their time limits (see `abortAll`), and
   * resolves when the last connection is closed.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#exchanges.size > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve
      })
    }
    this.#tools?.deadlines.clear()
    this.#resolver?.close()
    await this.#tools?.connections.close()
  }

  #start(): ExchangeTools {
    const options = this.#options
    const monotonicMs = options.monotonicMs ?? (() => performance.now())
    const setTimer = options.setTimer ?? systemTimer
    const proxy = parseProxy(options.proxy)
    this.#resolver = new Resolver({
      servers: options.dns?.servers ?? [],
      timeoutMs: options.dns?.timeoutMs ?? defaultDnsTimeoutMs,
      // Names that DNS does not know are names of an inside: of no use where none is open.
      askSystem: this.#addresses.opensNetworks || proxy !== null,
      monotonicMs,
      setTimer,
    })
    const connect = createConnect({
      addresses: this.#addresses,
      lookup: options.lookup ?? this.#resolver.lookup,
      proxy,
      connectTimeoutMs: options.connectTimeoutMs ?? defaultConnectTimeoutMs,
      setTimer,
    })
    return {
      connections: new Connections({
        connect,
        maxConnections: options.maxConnections ?? 1_024,
        idleMs: options.idleConnectionMs ?? 60_000,
        monotonicMs,
        setTimer,
      }),
      deadlines: new Deadlines(monotonicMs, setTimer),
      redirects: options.redirects ?? 'success',
      nowMs: options.nowMs ?? Date.now,
      monotonicMs,
      heads: new RequestHeads(this.securityManager),
      ended: (exchange, report) => this.#ended(exchange, report),
    }
  }

  #prepare(endpoint: EndpointRecord): PreparedEndpoint {
    let prepared = this.#prepared.get(endpoint)
    if (prepared === undefined) {
      prepared = prepare(endpoint, {
        addresses: this.#addresses,
        identities: this.#identities,
        userAgent: this.#options.userAgent ?? `K-Message-Webhook/${packageVersion}`,
        signatureHeader: this.securityManager.header,
      })
      this.#prepared.set(endpoint, prepared)
    }
    return prepared
  }

  #ended(exchange: Exchange, report: AttemptReport): void {
    this.#exchanges.delete(exchange)
    if (this.#starting) queueMicrotask(() => call(exchange.done, report))
    else call(exchange.done, report)
    if (this.#whenIdle !== null && this.#exchanges.size === 0) this.#whenIdle()
  }

  #refuse(outcome: Outcome, done: (report: AttemptReport) => void): void {
    const startedAtMs = (this.#options.nowMs ?? Date.now)()
    const report: AttemptReport = { outcome, startedAtMs, latencyMs: 0, responseBody: null }
    queueMicrotask(() => call(done, report))
  }

  #find(id: string): EndpointRecord {
    const record = this.registry?.find(id)
    if (record !== undefined) return record
    throw new WebhookError(
      'ENDPOINT_NOT_FOUND',
      `Expected the id of an endpoint in the dispatcher's registry, got ${JSON.stringify(id)}.`,
    )
  }
}

/** What checking an endpoint threw, as an outcome. */
function refusal(error: unknown, { url }: EndpointRecord): Outcome {
  const code = error instanceof WebhookError ? error.code : 'UNKNOWN'
  if (code === 'ADDRESS_BLOCKED') return { kind: 'blocked', address: new URL(url).hostname }
  return { kind: 'unreachable', code }
}

/** An error of the one who is told is theirs: it must neither be lost nor end up in a socket. */
function call(done: (report: AttemptReport) => void, report: AttemptReport): void {
  try {
    done(report)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}

function definedOnly(options: DispatcherOptions): DispatcherOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}
