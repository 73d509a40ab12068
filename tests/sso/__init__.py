"""Single sign-on against real providers (Keycloak, oidc-provider), a real browser and attacks."""
