/**
 * WebhookRegistry: the endpoints, in memory, checked and indexed. Alone it keeps them only in
 * memory; a WebhookService attaches a store, and from then on a change counts once it is written.
 * It never sends anything and knows nothing of deliveries. How a change is made: `endpoint-edits`.
 */
import { randomBytes as nodeRandomBytes } from 'node:crypto'
import type {
  EndpointRecord,
  WebhookEndpoint,
  WebhookEndpointChanges,
  WebhookEndpointInput,
} from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { WebhookEvent } from '../model/event.ts'
import { checkAsked, checkOptions, checkScope } from '../model/given.ts'
import type { RandomBytes } from '../model/ids.ts'
import { scopedTenantId } from '../model/names.ts'
import { secretTypeOf } from '../security/signing-key.ts'
import { memoryBacking, type RegistryBacking, type Terms } from './backing.ts'
import { type Edited, EndpointEdits } from './endpoint-edits.ts'
import type { EndpointRules } from './endpoint-input.ts'
import { EndpointTable } from './endpoint-table.ts'
import { publicEndpoint } from './endpoint-view.ts'
import { EndpointWrites } from './endpoint-writes.ts'
import { FlowTable } from './flow-table.ts'
import { checkRotation, type RotateSecretOptions } from './rotation-input.ts'

/** Whose endpoint: no `tenantId` means those without a tenant. */
export interface TenantScope {
  tenantId?: string | undefined
}

/** The result of `registerEndpoint` and `rotateSecret`: where a created secret is shown, once. */
export interface RegisteredEndpoint extends WebhookEndpoint {
  /**
   * Present only when this call created it. Give it to the receiver; it is not shown again. The
   * private half of an Ed25519 key never is: the receiver gets `publicKey`.
   */
  secret?: string
}

export interface RegistryOptions {
  /** CIDR blocks that endpoints may live in although they are private. */
  allowedNetworks?: readonly string[] | undefined
  nowMs?: (() => number) | undefined
  randomBytes?: RandomBytes | undefined
}

export class WebhookRegistry {
  /** @internal What keeps endpoints from being sent to for a while. */
  readonly flows = new FlowTable()
  readonly #table = new EndpointTable()
  readonly #writes = new EndpointWrites(this.#table, () => this.#terms.backing)
  readonly #edits: EndpointEdits
  #terms: Terms
  /** Changes run one after another: two at once could both start from the same version. */
  #turn: Promise<unknown> = Promise.resolve()

  /** @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID */
  constructor(options: RegistryOptions = {}) {
    checkOptions(options, ['allowedNetworks', 'nowMs', 'randomBytes'], 'WebhookRegistry')
    this.#terms = {
      backing: memoryBacking,
      rules: { allowedNetworks: options.allowedNetworks ?? [] },
      nowMs: options.nowMs ?? Date.now,
    }
    this.#edits = new EndpointEdits({
      table: this.#table,
      writes: this.#writes,
      randomBytes: options.randomBytes ?? nodeRandomBytes,
      terms: () => this.#terms,
    })
  }

  /**
   * Registers an endpoint, or updates the one with this id: given fields are applied, state,
   * history and statistics stay. It never re-enables what was paused or disabled.
   *
   * @throws WebhookError ENDPOINT_INVALID, ENDPOINT_ID_INVALID, ENDPOINT_URL_INVALID,
   *   ADDRESS_BLOCKED, SECRET_INVALID
   */
  register(input: WebhookEndpointInput): Promise<RegisteredEndpoint> {
    return this.#inTurn(async () => this.#registered(await this.#edits.register(input)))
  }

  /**
   * Replaces the secret; the ones before go on signing for `overlapMs`. Given the secret that signs
   * already, it changes nothing.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, SECRET_INVALID, SECRET_LIMIT, OPTION_OUT_OF_RANGE
   */
  rotateSecret(id: string, options: RotateSecretOptions = {}): Promise<RegisteredEndpoint> {
    return this.#inTurn(async () => {
      checkRotation(options)
      const known = this.require(id, { tenantId: options.tenantId })
      return this.#registered(await this.#edits.rotateSecret(known, options))
    })
  }

  /** Only the newest secret signs from now on. @throws WebhookError ENDPOINT_NOT_FOUND */
  finishRotation(id: string, scope?: TenantScope): Promise<WebhookEndpoint> {
    return this.#inTurn(async () =>
      this.#view(await this.#edits.finishRotation(this.require(id, scope))),
    )
  }

  /** @throws WebhookError ENDPOINT_NOT_FOUND and those of `register` */
  update(
    id: string,
    changes: WebhookEndpointChanges,
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    const update = async (known: EndpointRecord) =>
      this.#view(await this.#edits.update(known, changes))
    if (changes?.status === 'active' || changes?.active === true) {
      return this.#enable(id, scope, update)
    }
    return this.#inTurn(() => update(this.require(id, scope)))
  }

  /** @throws WebhookError ENDPOINT_NOT_FOUND */
  setStatus(
    id: string,
    status: EndpointRecord['status'],
    reason: string,
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    const set = async (known: EndpointRecord) =>
      this.#view(await this.#edits.setStatus(known, status, reason))
    if (status === 'active') return this.#enable(id, scope, set)
    return this.#inTurn(() => set(this.require(id, scope)))
  }

  /** @internal Not by request. @returns false when it is not active any more */
  disableActive(endpointKey: string, reason: string): Promise<boolean> {
    return this.#inTurn(async () => {
      const record = this.#table.byKey(endpointKey)
      if (record?.status !== 'active') return false
      await this.#edits.setStatus(record, 'disabled', reason)
      return true
    })
  }

  /** @throws WebhookError ENDPOINT_NOT_FOUND */
  remove(id: string, scope?: TenantScope, reason = 'by request'): Promise<void> {
    return this.#inTurn(async () => this.#edits.remove(this.require(id, scope), reason))
  }

  get(id: string, scope?: TenantScope): WebhookEndpoint | undefined {
    checkAsked('endpoint', id, scope)
    const record = this.find(id, scope)
    return record && this.#view(record)
  }

  /** Sorted by id. `tenantId: '*'` lists those of every tenant. */
  list(scope?: TenantScope): WebhookEndpoint[] {
    checkScope(scope)
    return this.records(scope).map((record) => this.#view(record))
  }

  /** The endpoints of the event's tenant that would get it. */
  match(
    event: Pick<WebhookEvent, 'type' | 'metadata' | 'tenantId'> & { data?: unknown },
  ): WebhookEndpoint[] {
    return this.#table
      .match(event.tenantId ?? '', event.type, event.metadata ?? {}, () => asSent(event.data))
      .map((record) => this.#view(record))
  }

  // ── for the engine ─────────────────────────────────────────────────────────────────────────────

  /** @internal */
  find(id: string, scope?: TenantScope): EndpointRecord | undefined {
    return this.#table.byId(scopedTenantId(scope?.tenantId), id)
  }

  /** @internal @throws WebhookError ENDPOINT_NOT_FOUND, ENDPOINT_ID_INVALID, TENANT_ID_INVALID */
  require(id: string, scope?: TenantScope): EndpointRecord {
    checkAsked('endpoint', id, scope)
    const record = this.find(id, scope)
    if (record !== undefined) return record
    throw new WebhookError(
      'ENDPOINT_NOT_FOUND',
      `Expected the id of a registered endpoint, got ${JSON.stringify(id)}${scope?.tenantId ? ` in tenant ${JSON.stringify(scope.tenantId)}` : ''}; register it first with \`registerEndpoint\`.`,
    )
  }

  /** @internal */
  byKey(key: string): EndpointRecord | undefined {
    return this.#table.byKey(key)
  }

  /** @internal Its id, also of one that was removed a while ago. */
  idOf(key: string): string {
    return this.#table.idOf(key)
  }

  /** @internal */
  records(scope?: TenantScope): EndpointRecord[] {
    const tenantId = scopedTenantId(scope?.tenantId)
    const all = this.#table.all()
    const chosen = tenantId === '*' ? all : all.filter((one) => one.tenantId === tenantId)
    return chosen.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** @internal */
  matchRecords(
    tenantId: string,
    eventType: string,
    metadata: Readonly<Record<string, unknown>>,
    data?: () => unknown,
  ): readonly EndpointRecord[] {
    return this.#table.match(tenantId, eventType, metadata, data)
  }

  /** @internal Takes over into memory what a settlement already wrote to the store. */
  takeOver(...what: Parameters<EndpointWrites['takeOver']>): EndpointRecord | undefined {
    return this.#writes.takeOver(...what)
  }

  /**
   * @internal Takes over what other processes have changed.
   *
   * @returns the version of all endpoints that is in force here now
   */
  refresh(): Promise<number> {
    return this.#inTurn(() => this.#refreshNow())
  }

  /** @internal Forgets secrets whose overlap has ended, here and in the store. */
  dropExpiredSecrets(): Promise<void> {
    return this.#inTurn(() => this.#edits.dropExpiredSecrets())
  }

  /**
   * @internal Writes endpoints as they are once more, so that they are stored under the newest key.
   * Nobody is told: nothing about them has changed.
   */
  saveAgain(endpointKeys: readonly string[], what: string): Promise<void> {
    return this.#inTurn(async () => {
      const nowMs = this.#terms.nowMs()
      await Promise.all(endpointKeys.map((key) => this.#writes.writeAgain(key, what, nowMs)))
    })
  }

  /**
   * @internal Puts a store behind the registry: loads what it holds, then writes what was
   * registered here before.
   *
   * @returns endpoints whose created secret signs nothing, because the store has them with another
   */
  async attach(
    stored: readonly EndpointRecord[],
    backing: RegistryBacking,
    options: EndpointRules & { readonly nowMs: () => number },
  ): Promise<EndpointRecord[]> {
    const { allowedNetworks, signatureHeader, nowMs } = options
    const { rules } = this.#terms
    this.#terms = {
      backing,
      rules: {
        allowedNetworks: allowedNetworks.length > 0 ? allowedNetworks : rules.allowedNetworks,
        signatureHeader,
      },
      nowMs,
    }
    return await this.#edits.attach(stored)
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────

  /** The private half of an Ed25519 key stays here. */
  #registered({ record, created }: Edited): RegisteredEndpoint {
    const view = this.#view(record)
    return created === null || secretTypeOf(created) === 'ed25519'
      ? view
      : { ...view, secret: created }
  }

  #view(record: EndpointRecord): WebhookEndpoint {
    return publicEndpoint(record, this.flows.get(record.key), this.#terms.nowMs())
  }

  /**
   * Before a disabled endpoint is enabled, all ends that waited for it, whichever process disabled it.
   * That can take a while, and nobody else's turn waits for it.
   */
  async #enable(
    id: string,
    scope: TenantScope | undefined,
    enable: (known: EndpointRecord) => Promise<WebhookEndpoint>,
  ): Promise<WebhookEndpoint> {
    let ended: EndpointRecord | null = null
    for (;;) {
      const view: WebhookEndpoint | EndpointRecord = await this.#inTurn(async () => {
        // Another process may have disabled it a moment ago.
        if (this.require(id, scope).status === 'active') await this.#refreshNow()
        const known = this.require(id, scope)
        return known.status === 'disabled' && known !== ended ? known : await enable(known)
      })
      if (!('key' in view)) return view
      await this.#terms.backing.endWaiting(view.key)
      ended = view
    }
  }

  #refreshNow(): Promise<number> {
    return this.#writes.refresh(this.#terms.nowMs())
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#untilWritten(change))
    this.#turn = result.catch(() => {})
    return result
  }

  #untilWritten<T>(change: () => Promise<T>): Promise<T> {
    return this.#writes.untilWritten(change, this.#terms.nowMs)
  }
}

/** As a receiver will see it: dates are texts, for one. */
function asSent(data: unknown): unknown {
  return data === undefined ? undefined : JSON.parse(JSON.stringify(data) ?? 'null')
}
