/** What an operator is told once: at the start, and at a change that concerns how safe secrets are. */
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { Logger } from '../observe/log.ts'
import { replacesRotated } from '../registry/endpoint-changes.ts'
import { secretBytes } from '../security/secrets.ts'
import { secretTypeOf } from '../security/signing-key.ts'
import type { EndpointChange } from '../storage/endpoints.ts'

/** Standard Webhooks asks for 24 to 64 random bytes. */
const advisedBytes = 24

/** A process that awaits nothing of the service would otherwise end, or stay, without a word. */
export function errorOfStart(logger: Logger, error: Error): void {
  const code = error instanceof WebhookError ? error.code : 'unknown'
  logger.error(
    { ready: false, code, error: error.message },
    'The service has not started: it accepts and sends nothing. Mend the cause and start again',
  )
}

export function warnOfNoSignature(logger: Logger): void {
  logger.warn(
    { enableSecurity: false },
    'Requests are sent without a signature: a receiver cannot tell them from forged ones. Leave `enableSecurity` out to sign.',
  )
}

export function warnOfClearText(logger: Logger, location: string): void {
  logger.warn(
    { encryption: 'none', location },
    'Secrets, custom headers and TLS keys are stored unencrypted, readable by whoever reads the file or a backup of it. Set KMSG_WEBHOOK_ENCRYPTION_KEYS or `encryptionKeys`; `npx kmsg-webhook key` makes a key.',
  )
}

/** @param name of the option or endpoint it belongs to */
export function warnOfShortSecret(logger: Logger, name: string, secret: string): void {
  if (secretTypeOf(secret) === 'ed25519') return
  const { length } = secretBytes(secret)
  if (length >= advisedBytes) return
  logger.warn(
    { of: name, bytes: length },
    `A secret of ${length} bytes signs; ${advisedBytes} random ones or more are advised. Leave it out and a safe one is created.`,
  )
}

/** When a secret comes in, and not at every start. */
export function warnOfNewSecret(
  logger: Logger,
  { id, secrets: [newest] }: EndpointRecord,
  { what, fields, reason }: EndpointChange,
): void {
  if (newest === undefined || (what !== 'registered' && !fields.includes('secrets'))) return
  if (reason === replacesRotated) {
    logger.warn(
      { endpoint: id },
      'Registering or updating replaced the secret that rotateSecret had made. If code still holds an older secret, this brings it back: bring the code up to date.',
    )
  }
  if (what !== 'rotation ended') warnOfShortSecret(logger, id, newest.secret)
}

/** A registry that is used before its service cannot know what the store holds. */
export function warnOfVoidSecret(logger: Logger, id: string): void {
  logger.warn(
    { endpoint: id },
    'This endpoint was stored before with a secret, which goes on signing; the one that was created and shown before the service started signs nothing. Register on the service, or give a `secret`.',
  )
}
