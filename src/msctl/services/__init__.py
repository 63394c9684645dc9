"""The course's services: small hosted applications that serve as examples."""
