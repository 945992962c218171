/**
 * What callers hand in beside events and endpoints: objects of options, ids, the scope of a question.
 * TypeScript refuses most slips; in JavaScript they would be ignored, and something else would happen
 * than was meant.
 */
import { describeValue, WebhookError, type WebhookErrorCode } from './errors.ts'
import { scopedTenantId } from './names.ts'
import { unknownOption } from './suggest.ts'

/**
 * @param what stands in the sentence, as in "an option of drain"
 * @throws WebhookError OPTION_UNKNOWN
 */
export function refuseUnknown(given: object, known: readonly string[], what: string): void {
  for (const name of Object.keys(given)) {
    if (!known.includes(name)) throw unknownOption(name, known, what)
  }
}

/**
 * An object of options, or none.
 *
 * @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID
 */
export function checkOptions(given: unknown, known: readonly string[], method: string): void {
  if (given === undefined) return
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the options of ${method} to be an object with ${known.map((one) => `\`${one}\``).join(', ')}, got ${describeValue(given)}.`,
    )
  }
  refuseUnknown(given, known, `an option of ${method}`)
}

/** @throws WebhookError OPTION_UNKNOWN, OPTION_INVALID, TENANT_ID_INVALID */
export function checkScope(scope: unknown): void {
  if (scope === undefined) return
  if (typeof scope !== 'object' || scope === null || Array.isArray(scope)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the scope to be an object such as { tenantId: 'shop' }, got ${describeValue(scope)}; leave it out for no tenant.`,
    )
  }
  refuseUnknown(scope, ['tenantId'], 'a field of the scope')
  scopedTenantId((scope as { tenantId?: unknown }).tenantId)
}

const ids = {
  event: ['EVENT_ID_INVALID', 'an event'],
  endpoint: ['ENDPOINT_ID_INVALID', 'an endpoint'],
  delivery: ['DELIVERY_NOT_FOUND', 'a delivery'],
  repair: ['REPAIR_NOT_FOUND', 'a repair'],
} as const satisfies Record<string, readonly [WebhookErrorCode, string]>

/** A text, whatever it names: what names nothing is no mistake of the caller. */
export function checkId(kind: keyof typeof ids, id: unknown): void {
  if (typeof id === 'string') return
  const [code, what] = ids[kind]
  throw new WebhookError(code, `Expected the id of ${what}, a text, got ${describeValue(id)}.`)
}

/**
 * One by its id. Deliveries and repairs have ids of their own in all tenants.
 *
 * @throws WebhookError …_ID_INVALID, …_NOT_FOUND, OPTION_UNKNOWN, OPTION_INVALID, TENANT_ID_INVALID
 */
export function checkAsked(kind: keyof typeof ids, id: unknown, scope: unknown): void {
  checkId(kind, id)
  checkScope(scope)
  if (kind !== 'event' && kind !== 'endpoint') return
  // It would be found in no tenant, and look as if it were not there.
  if ((scope as { tenantId?: unknown } | undefined)?.tenantId !== '*') return
  const advice = kind === 'event' ? '`kmsg-webhook find` names its tenants' : 'lists take "*"'
  throw new WebhookError(
    'TENANT_ID_INVALID',
    `Expected \`tenantId\` to name the tenant of the ${kind}, got "*": ids are unique in one tenant only; ${advice}.`,
  )
}
