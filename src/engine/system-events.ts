/**
 * Tells another endpoint what becomes of endpoints: events of our own, stored and delivered like any
 * other, to the one endpoint that the option `systemEvents` names and to no one else.
 */
import { type CheckedEvent, checkEvent } from '../accept/event-input.ts'
import type { EndpointRecord } from '../model/endpoint.ts'
import { type Logger, loggableUrl } from '../observe/log.ts'

export type SystemEventName = 'failing' | 'disabled' | 'recovered'

export interface SystemEventsTools {
  /** Which endpoint gets them; null: none. */
  readonly to: { readonly endpointId: string; readonly tenantId?: string | undefined } | null
  readonly find: (id: string, tenantId: string | undefined) => EndpointRecord | undefined
  readonly accept: (event: CheckedEvent, to: EndpointRecord) => Promise<unknown>
  readonly logger: Logger
}

const maxPayloadBytes = 65_536

export class SystemEvents {
  readonly #tools: SystemEventsTools

  constructor(tools: SystemEventsTools) {
    this.#tools = tools
  }

  /**
   * Never rejects.
   *
   * @param about never the endpoint that is told: what it cannot be told by itself
   */
  async tell(
    name: SystemEventName,
    about: EndpointRecord,
    atMs: number,
    facts: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    const { to, find, accept, logger } = this.#tools
    if (to === null) return
    const target = find(to.endpointId, to.tenantId)
    if (target?.key === about.key) return
    const type = `system.endpoint.${name}`
    if (target === undefined || target.status === 'disabled') {
      logger.warn({ endpoint: to.endpointId, type }, 'the endpoint of `systemEvents` is not there')
      return
    }
    try {
      const data = {
        endpointId: about.id,
        tenantId: about.tenantId || null,
        url: loggableUrl(about.url),
        ...facts,
      }
      // The same id wherever it comes from: two processes that both saw it tell it once.
      const id = `${name}_${about.key}_${Math.round(atMs)}`
      const event = checkEvent(
        { id, type, timestamp: new Date(atMs), data, tenantId: target.tenantId || undefined },
        { maxPayloadBytes, enabledEvents: null },
      )
      await accept(event, target)
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error)
      logger.error({ endpoint: about.id, type, error: text }, 'a system event could not be stored')
    }
  }
}
