-- The health of a Rollout (serin.dev) for Argo CD: resource.customizations.
-- Healthy: at rest with the wanted revision. Suspended: it waits for a person.
-- Degraded: a person is needed, or the wanted revision was taken back; users
-- are served by the stable one all the same (see the condition Available).
local function condition(kind)
  for _, c in ipairs(obj.status.conditions or {}) do
    if c.type == kind then
      return c
    end
  end
  return {status = "Unknown", message = ""}
end

if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = "Traffic is being given back"}
end
if obj.status == nil or obj.status.conditions == nil then
  return {status = "Progressing", message = "Not seen by the controller yet"}
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The edited document was not seen by the controller yet"}
end

local message = obj.status.message or ""
local stalled = condition("Stalled")
if stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if condition("Available").status == "False" then
  return {status = "Degraded", message = condition("Available").message}
end
if (obj.status.paused ~= nil and #obj.status.paused > 0) or obj.status.waiting == "approval" then
  return {status = "Suspended", message = message}
end
if condition("Ready").status == "True" then
  return {status = "Healthy", message = message}
end
return {status = "Progressing", message = message}
