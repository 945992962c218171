/** An event by an id alone, whosever it is: for operators, who can read all of the file anyway. */
import type { EventFound } from '../questions.ts'
import type { Connection } from './connection.ts'
import { findDelivery, findEvent } from './read.ts'

/** From one tenant to the next by the primary key: two steps for each, however many events there are. */
const tenantsOfEvent = `
  with recursive tenant (id) as (
    select min(tenant_id) from event_key
    union all
    select (select min(tenant_id) from event_key where tenant_id > tenant.id)
      from tenant where tenant.id is not null)
  select tenant_id from tenant join event_key on tenant_id = tenant.id and event_key.id = ?
   order by 1`

/** @param id of an event or a delivery @returns one event for each tenant that has it */
export function findEverywhere(connection: Connection, id: string): EventFound[] {
  const delivery = findDelivery({ connection }, id)
  const tenants = delivery
    ? [delivery.tenantId]
    : connection.all<{ tenant_id: string }>(tenantsOfEvent, id).map((row) => row.tenant_id)
  return tenants
    .map((tenantId) => findEvent({ connection }, tenantId, delivery?.eventId ?? id))
    .filter((event) => event !== null)
}
