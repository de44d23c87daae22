"""Results for people: tables and pictures here, HTML in pages/, explanations in maps/."""
