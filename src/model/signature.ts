/** The words of signing. */

/**
 * What signatures a request carries.
 *
 * - `standard`: `webhook-signature` of Standard Webhooks, over id, timestamp and body
 * - `body`: `X-Webhook-Signature` over the body alone, as the first version of this package
 * - `timestamped-body`: the same header over `timestamp.body`, as version 0.30
 */
export type SignatureScheme = 'standard' | 'body' | 'timestamped-body'

/** `hmac`: both sides know the secret. `ed25519`: only the sender can sign, anybody can verify. */
export type SecretType = 'hmac' | 'ed25519'

/** A key that signs for an endpoint, as reads show it. */
export interface SigningKey {
  type: SecretType
  /** `whpk_…`, for the receiver; null for HMAC, whose only key is the secret. */
  publicKey: string | null
  createdAt: Date
  /** When it stops signing; null for the newest one. */
  expiresAt: Date | null
}
