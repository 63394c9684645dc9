"""The course's services: small hosted applications, made to be copied."""
