package route

// golden maps keys to the ranking of the collectors in TestGoldenVectors.
var golden = map[string][]string{
	"":             {"a.example:5170", "c.example:5170", "b.example:5170"},
	"a":            {"c.example:5170", "a.example:5170", "b.example:5170"},
	"web-1":        {"c.example:5170", "a.example:5170", "b.example:5170"},
	"4f6ab1c2d3e4": {"b.example:5170", "a.example:5170", "c.example:5170"},
	"4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa4f6ab1c2d3e47c1e09aa0123": {"c.example:5170", "a.example:5170", "b.example:5170"},
	"com.example.team=payments":                                        {"c.example:5170", "b.example:5170", "a.example:5170"},
	"ünïcode":                                                          {"b.example:5170", "a.example:5170", "c.example:5170"},
	"key-0":                                                            {"c.example:5170", "b.example:5170", "a.example:5170"},
	"key-1":                                                            {"c.example:5170", "b.example:5170", "a.example:5170"},
	"key-2":                                                            {"c.example:5170", "a.example:5170", "b.example:5170"},
	"key-3":                                                            {"c.example:5170", "b.example:5170", "a.example:5170"},
	"key-4":                                                            {"c.example:5170", "b.example:5170", "a.example:5170"},
}
