-- Views are made anew with every publishing.
DROP VIEW IF EXISTS $view;
