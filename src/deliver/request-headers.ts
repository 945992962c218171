/** The headers of one attempt: what the endpoint always gets, then what is new each time. */
import type { EndpointRecord } from '../model/endpoint.ts'
import type { SecurityManager } from '../security/security-manager.ts'
import type { AttemptRequest } from './attempt-request.ts'
import type { PreparedEndpoint, Signing } from './prepare.ts'

export class RequestHeaders {
  readonly #security: SecurityManager
  /** Unix seconds as text change once a second, and attempts are made thousands of times in one. */
  #second = -1
  #secondText = ''

  constructor(security: SecurityManager) {
    this.#security = security
  }

  /**
   * @returns names and values in turn, signed with the timestamp of now
   * @throws WebhookError SECRET_MISSING, SECRET_INVALID
   */
  build(request: AttemptRequest, prepared: PreparedEndpoint, nowMs: number): string[] {
    const timestamp = this.#timestamp(nowMs)
    const headers = [
      ...prepared.headers,
      'webhook-id',
      request.eventId,
      'webhook-timestamp',
      timestamp,
      'X-Webhook-Timestamp',
      timestamp,
      'X-Webhook-ID',
      request.eventId,
      'X-Webhook-Event',
      request.eventType,
      'X-Webhook-Delivery',
      request.deliveryId,
      'X-Webhook-Attempt',
      String(request.attempt),
    ]
    if (request.enableSecurity) {
      let { signing } = prepared
      if (
        signing === null ||
        nowMs >= signing.untilMs ||
        signing.fallbackSecret !== request.fallbackSecret
      ) {
        signing = this.#signing(request.endpoint, request.fallbackSecret, nowMs)
        prepared.signing = signing
      }
      signing.signer.addTo(headers, request.eventId, timestamp, request.body)
    }
    return headers
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
