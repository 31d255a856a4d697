using System.Text.Json;

namespace Z1Coder.Trainer.Data;

/// <summary>Reasons with counts and examples, as reports write them.</summary>
internal static class DropCountJson
{
    /// <summary>An array property of objects with reason, count and examples.</summary>
    public static void Write(Utf8JsonWriter json, string name, IReadOnlyList<DropCount> drops)
    {
        json.WriteStartArray(name);
        foreach (var drop in drops)
        {
            json.WriteStartObject();
            json.WriteString("reason", drop.Reason);
            json.WriteNumber("count", drop.Count);
            json.WriteStartArray("examples");
            foreach (var example in drop.Examples)
            {
                json.WriteStringValue(example);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }
}
