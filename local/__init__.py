"""An embedded AWS that starts the resources of synthesized templates on one machine."""
