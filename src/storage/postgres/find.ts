/**
 * An event by an id alone, whosever it is. For operators, who can read all of
 * it anyway; a service never asks this, so that no tenant learns what another has.
 */

import type { EventFound } from '../questions.ts'
import { type BesideOptions, beside } from './beside.ts'
import { findDelivery, findEvent } from './read.ts'
import { requireSchema } from './schema.ts'
import { fromText, toText } from './text.ts'

/**
 * `offset 0` keeps the look-ups apart: joined, they
 * would be one read of every id.
 */
const tenantsOfEvent = `
  with recursive tenant (id) as (
    select min(tenant_id) from kmsg.event_key
    union all
    select (select min(tenant_id) from kmsg.event_key where tenant_id > tenant.id)
      from tenant where tenant.id is not null)
  select tenant.id as tenant_id
    from tenant cross join lateral (
      select from kmsg.event_key where tenant_id = tenant.id and id = $1 offset 0) as found
   order by 1`

/**
 * @param id of an event or a delivery
 * @returns one event for each tenant that has it
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER | STORAGE_UNAVAILABLE | OPTION_…
 */
export async function findInDatabase(
  url: string,
  id: string,
  options: BesideOptions,
): Promise<EventFound[]> {
  return await beside(url, options, async (database) => {
    await requireSchema(database)
    const delivery = await findDelivery({ database }, id)
    const rows = delivery
      ? [{ tenant_id: toText(delivery.tenantId) }]
      : await database.read((connection) =>
          connection.all<{ tenant_id: string }>(tenantsOfEvent, toText(id)),
        )
    const found = await Promise.all(
      rows.map((row) => findEvent({ database }, fromText(row.tenant_id), delivery?.eventId ?? id)),
    )
    return found.filter((event) => event !== null)
  })
}
