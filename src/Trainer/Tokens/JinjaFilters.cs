using System.Globalization;

namespace Z1Coder.Trainer.Tokens;

/// <summary>The filters and tests of the templates that models ship with.</summary>
internal static class JinjaFilters
{
    /// <summary>Filter names, each with the most arguments it takes and the names of arguments it knows.</summary>
    public static readonly Dictionary<string, (int Most, string[] Names)> Filters = new(StringComparer.Ordinal)
    {
        ["tojson"] = (0, ["indent"]), ["trim"] = (1, []), ["length"] = (0, []), ["count"] = (0, []), ["string"] = (0, []),
        ["int"] = (1, []),
        ["float"] = (1, []), ["list"] = (0, []), ["join"] = (1, []), ["upper"] = (0, []), ["lower"] = (0, []), ["capitalize"] = (0, []),
        ["first"] = (0, []), ["last"] = (0, []), ["replace"] = (2, []), ["default"] = (2, ["boolean"]), ["d"] = (2, ["boolean"]),
        ["items"] = (0, []), ["reverse"] = (0, []), ["safe"] = (0, []), ["abs"] = (0, []), ["map"] = (0, ["attribute"]),
        ["selectattr"] = (3, []), ["rejectattr"] = (3, []),
    };

    /// <summary>Test names, with whether an argument follows.</summary>
    public static readonly Dictionary<string, bool> Tests = new(StringComparer.Ordinal)
    {
        ["defined"] = false, ["undefined"] = false, ["none"] = false, ["string"] = false, ["mapping"] = false, ["sequence"] = false,
        ["iterable"] = false, ["number"] = false, ["integer"] = false, ["float"] = false, ["boolean"] = false, ["true"] = false,
        ["false"] = false, ["odd"] = false, ["even"] = false, ["equalto"] = true, ["eq"] = true, ["ne"] = true, ["in"] = true,
        ["sameas"] = true, ["divisibleby"] = true, ["lt"] = true, ["le"] = true, ["gt"] = true, ["ge"] = true,
    };

    public static object? Apply(string name, object? value, List<object?> arguments, Dictionary<string, object?> named)
    {
        switch (name)
        {
            case "tojson":
                return JinjaText.Json(value, named.TryGetValue("indent", out var indent) && indent is not null
                    ? (int)Math.Clamp(JinjaValue.ToLong(indent), 0, 64) : -1);
            case "trim": return JinjaMethods.Call(JinjaText.Str(value), "strip", arguments);
            case "length" or "count": return JinjaValue.Length(value);
            case "string": return JinjaText.Str(value);
            case "int": return ToInt(value, arguments.Count > 0 ? arguments[0] : 0L);
            case "float": return ToFloat(value, arguments.Count > 0 ? arguments[0] : 0.0);
            case "list": return JinjaValue.Items(value);
            case "join": 
                return string.Join(arguments.Count > 0 ? JinjaText.Str(arguments[0]) : "", JinjaValue.Items(value).Select(JinjaText.Str));
            case "upper" or "lower" or "capitalize": return JinjaMethods.Call(JinjaText.Str(value), name, arguments);
            case "first": return JinjaValue.Items(value) is { Count: > 0 } head ? head[0] : new JinjaUndefined("the first of nothing");
            case "last": return JinjaValue.Items(value) is { Count: > 0 } tail ? tail[^1] : new JinjaUndefined("the last of nothing");
            case "replace": return JinjaMethods.Call(JinjaText.Str(value), name, arguments);
            case "default" or "d":
                var boolean = arguments.Count > 1 ? JinjaValue.IsTrue(arguments[1])
                    : named.TryGetValue("boolean", out var flag) && JinjaValue.IsTrue(flag);
                var missing = value is JinjaUndefined || (boolean && !JinjaValue.IsTrue(value));
                return missing ? arguments.Count > 0 ? arguments[0] : "" : value;
            case "items":
                return value is JinjaUndefined ? new List<object?>() : JinjaMethods.Call(value, name, arguments);
            case "reverse":
                return JinjaValue.Slice(value is string ? value : JinjaValue.Items(value), null, null, -1L);
            case "safe": return value;
            case "abs":
                return value is double d ? Math.Abs(d)
                    : JinjaValue.ToLong(value) is var whole && whole < 0 ? JinjaValue.Negate(whole) : whole;
            case "map":
                var attribute = named["attribute"];
                return JinjaValue.Items(value).ConvertAll(item => JinjaValue.Item(item, attribute));
            default: return Select(value, arguments, wanted: name == "selectattr");
        }
    }

    public static bool Test(string name, object? value, object? argument) => name switch
    {
        "defined" => value is not JinjaUndefined,
        "undefined" => value is JinjaUndefined,
        "none" => value is null,
        "string" => value is string,
        "mapping" => value is Dictionary<string, object?>,
        "sequence" => value is string or List<object?> or Dictionary<string, object?> or JinjaUndefined,
        "iterable" => value is string or List<object?> or Dictionary<string, object?> or JinjaUndefined,
        "number" => value is bool or long or double or System.Numerics.BigInteger,
        "integer" => value is long or System.Numerics.BigInteger,
        "float" => value is double,
        "boolean" => value is bool,
        "true" => value is true,
        "false" => value is false,
        "odd" => JinjaValue.ToLong(value) % 2 != 0,
        "even" => JinjaValue.ToLong(value) % 2 == 0,
        "equalto" or "eq" => JinjaValue.AreEqual(value, argument),
        "ne" => !JinjaValue.AreEqual(value, argument),
        "in" => JinjaValue.Contains(argument, value),
        "sameas" => value?.GetType() == argument?.GetType() && JinjaValue.AreEqual(value, argument),
        "divisibleby" => JinjaValue.IsTrue(JinjaValue.Arithmetic("%", value, argument)) is false,
        "lt" => JinjaValue.Compare(value, argument) < 0,
        "le" => JinjaValue.Compare(value, argument) <= 0,
        "gt" => JinjaValue.Compare(value, argument) > 0,
        _ => JinjaValue.Compare(value, argument) >= 0,
    };

    private static List<object?> Select(object? value, List<object?> arguments, bool wanted)
    {
        var test = arguments.Count > 1 ? JinjaText.Str(arguments[1]) : null;
        if (arguments.Count == 0 || (test is not null && (!Tests.TryGetValue(test, out var more) || more != (arguments.Count > 2))))
        {
            throw new JinjaException($"the test '{test}' is not supported in selectattr and rejectattr");
        }

        return JinjaValue.Items(value).FindAll(item =>
        {
            var member = JinjaValue.Item(item, arguments[0]);
            return wanted == (test is null ? JinjaValue.IsTrue(member) : Test(test, member, arguments.Count > 2 ? arguments[2] : null));
        });
    }

    private static object? ToInt(object? value, object? otherwise) => value switch
    {
        bool or long => JinjaValue.ToLong(value),
        double d when Math.Abs(d) < 9e18 => (long)d,
        string text when long.TryParse(text.Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var whole) => whole,
        string text when double.TryParse(text.Trim(), NumberStyles.Float, CultureInfo.InvariantCulture, out var d)
            && Math.Abs(d) < 9e18 => (long)d,
        _ => otherwise,
    };

    private static object? ToFloat(object? value, object? otherwise) => value switch
    {
        bool or long or double => JinjaValue.ToDouble(value),
        string text when double.TryParse(text.Trim(), NumberStyles.Float, CultureInfo.InvariantCulture, out var d) => d,
        _ => otherwise,
    };
}
