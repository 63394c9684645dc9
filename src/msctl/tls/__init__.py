"""What HTTPS needs: certificates read and checked, a context made of them, a local authority."""
