/** The head of one attempt: what the endpoint always gets, then what is new each time. */
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { SecurityManager } from '../security/security-manager.ts'
import type { AttemptRequest } from './attempt-request.ts'
import type { PreparedEndpoint, Signing } from './prepare.ts'

/** Ids and types are checked when an event is accepted; a row can be put into the store otherwise. */
const unsafe = /[^\x21-\x7e]/

export class RequestHeads {
  readonly #security: SecurityManager
  /** Unix seconds as text change once a second, and attempts are made thousands of times in one. */
  #second = -1
  #secondText = ''

  constructor(security: SecurityManager) {
    this.#security = security
  }

  /**
   * @returns request line and headers, signed with the timestamp of now, and the empty line
   * @throws WebhookError SECRET_MISSING, SECRET_INVALID, EVENT_INVALID
   */
  build(request: AttemptRequest, prepared: PreparedEndpoint, nowMs: number): string {
    const { eventId, eventType, deliveryId, body } = request
    const timestamp = this.#timestamp(nowMs)
    if (unsafe.test(eventId) || unsafe.test(eventType) || unsafe.test(deliveryId)) {
      throw new WebhookError(
        'EVENT_INVALID',
        'Expected the id and the type of an event to be what a header can hold; something else wrote to the store.',
      )
    }
    let head = `${prepared.head}webhook-id: ${eventId}\r\nwebhook-timestamp: ${timestamp}\r\nX-Webhook-Timestamp: ${timestamp}\r\nX-Webhook-ID: ${eventId}\r\nX-Webhook-Event: ${eventType}\r\nX-Webhook-Delivery: ${deliveryId}\r\nX-Webhook-Attempt: ${request.attempt}\r\n`
    if (request.enableSecurity) head += this.#signatures(request, prepared, nowMs, timestamp)
    return `${head}content-length: ${body.length}\r\n\r\n`
  }

  #signatures(
    request: AttemptRequest,
    prepared: PreparedEndpoint,
    nowMs: number,
    timestamp: string,
  ): string {
    let { signing } = prepared
    if (
      signing === null ||
      nowMs >= signing.untilMs ||
      signing.fallbackSecret !== request.fallbackSecret
    ) {
      signing = this.#signing(request.endpoint, request.fallbackSecret, nowMs)
      prepared.signing = signing
    }
    return signing.signer.headerLines(request.eventId, timestamp, request.body)
  }

  /** The secrets that sign now, newest first, and until when it is these. */
  #signing(endpoint: EndpointRecord, fallbackSecret: string | null, nowMs: number): Signing {
    const live: string[] = []
    let untilMs = Number.POSITIVE_INFINITY
    for (const { secret, expiresAtMs } of endpoint.secrets) {
      if (expiresAtMs !== null && expiresAtMs <= nowMs) continue
      live.push(secret)
      untilMs = Math.min(untilMs, expiresAtMs ?? Number.POSITIVE_INFINITY)
    }
    if (live.length === 0 && fallbackSecret !== null) live.push(fallbackSecret)
    const signer = this.#security.signer(live, endpoint.signatureSchemes)
    return { signer, untilMs, fallbackSecret }
  }

  #timestamp(nowMs: number): string {
    const second = Math.floor(nowMs / 1000)
    if (second !== this.#second) {
      this.#second = second
      this.#secondText = String(second)
    }
    return this.#secondText
  }
}
