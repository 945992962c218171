/** The door of `rotateSecret`: what it takes and refuses. */
import { describeValue, WebhookError } from '../model/errors.ts'
import { checkOptions } from '../model/given.ts'
import type { SecretType } from '../model/signature.ts'
import { checkSecretAndType } from './endpoint-input.ts'

export interface RotateSecretOptions {
  /** The new one; one is created when it is left out. */
  secret?: string | undefined
  /** What to create. Default: the type of the one before. */
  secretType?: SecretType | undefined
  /**
   * How long all earlier secrets go on signing beside the new one, at the most. 0 ends them at once,
   * as after a leak. Default: the service's `rotationOverlapMs`, 24 hours.
   */
  overlapMs?: number | undefined
  tenantId?: string | undefined
}

const known: readonly string[] = ['secret', 'secretType', 'overlapMs', 'tenantId']
const maxOverlapMs = 30 * 86_400_000

/** @throws WebhookError OPTION_UNKNOWN, OPTION_OUT_OF_RANGE, ENDPOINT_INVALID, SECRET_INVALID */
export function checkRotation(options: RotateSecretOptions): void {
  checkOptions(options, known, 'rotateSecret')
  const { secret, secretType, overlapMs } = options
  checkSecretAndType(secret, secretType)
  if (overlapMs !== undefined && !isOverlap(overlapMs)) {
    throw new WebhookError(
      'OPTION_OUT_OF_RANGE',
      `Expected \`overlapMs\` to be an integer from 0 to ${maxOverlapMs}, got ${describeValue(overlapMs)}.`,
    )
  }
}

function isOverlap(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= maxOverlapMs
}
