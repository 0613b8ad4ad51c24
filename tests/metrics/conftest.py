"""Drawing examples takes longer on a busy machine, which is not a fault of what is tested."""

from hypothesis import HealthCheck, settings

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
