complete --keep-order --exclusive --command fhirctl --arguments "(COMPLETE=fish fhirctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
