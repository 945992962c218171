/** What `eraseEvents` is asked to erase. Erasing must be meant: what is unclear is refused. */
import { describeValue, WebhookError } from '../model/errors.ts'
import { checkOptions } from '../model/given.ts'
import { dateMs } from '../model/moment.ts'
import { idPattern, scopedTenantId } from '../model/names.ts'
import type { TenantScope } from '../registry/webhook-registry.ts'
import type { EraseSelection } from '../storage/upkeep.ts'

/** What `eraseEvents` erases: one of the three. */
export interface EraseQuery extends TenantScope {
  ids?: readonly string[] | undefined
  /** Events accepted before. */
  before?: Date | undefined
}

/** @throws WebhookError OPTION_INVALID, OPTION_UNKNOWN, EVENT_ID_INVALID, TENANT_ID_INVALID */
export function eraseSelection(query: EraseQuery = {}): EraseSelection {
  checkOptions(query, ['ids', 'before', 'tenantId'], 'eraseEvents')
  const { ids, before, tenantId } = query
  scopedTenantId(tenantId)
  // A selection that came to nothing is a mistake, and must not erase more than was meant.
  if (('ids' in query && !Array.isArray(ids)) || ('before' in query && before === undefined)) {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected \`ids\` to be a list and \`before\` a Date where they are given, got ${describeValue('ids' in query ? ids : before)}.`,
    )
  }
  if (tenantId === '*' && before === undefined) {
    throw new WebhookError(
      'TENANT_ID_INVALID',
      'Expected `tenantId` to name one tenant, got "*"; all tenants are taken together with `before` only.',
    )
  }
  if (ids !== undefined && before === undefined) {
    for (const id of ids) checkErasable(id)
    return { kind: 'ids', tenantId: tenantId ?? '', ids }
  }
  if (before !== undefined && ids === undefined) {
    const beforeMs = dateMs('before', before) ?? 0
    return { kind: 'before', tenantId: tenantId === '*' ? null : (tenantId ?? ''), beforeMs }
  }
  if (tenantId !== undefined && ids === undefined) return { kind: 'tenant', tenantId }
  throw new WebhookError(
    'OPTION_INVALID',
    'Expected one of `ids`, `before` and `tenantId`, got none or several; erasing must be meant.',
  )
}

function checkErasable(id: unknown): void {
  if (typeof id === 'string' && idPattern.test(id)) return
  throw new WebhookError(
    'EVENT_ID_INVALID',
    `Expected \`ids\` to list ids of events, got ${describeValue(id)} among them; nothing is erased.`,
  )
}
