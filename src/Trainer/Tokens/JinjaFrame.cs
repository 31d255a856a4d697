using System.Text;

namespace Z1Coder.Trainer.Tokens;

/// <summary>What one rendering shares: the running line, the macros, and a budget against templates without end.</summary>
internal sealed class JinjaRun
{
    private const int MostSteps = 5_000_000;
    private const int MostCharacters = 64 << 20;
    private const int MostMacros = 40;

    private int _steps;
    private int _macros;

    public JinjaRun() => Root = new JinjaFrame(this, null);

    public JinjaFrame Root { get; }

    public Dictionary<string, JinjaMacro> Macros { get; } = new(StringComparer.Ordinal);

    public int Line { get; set; }

    /// <summary>Counts work that a template asks for.</summary>
    public void Spend(int steps)
    {
        _steps += steps;
        if (_steps > MostSteps)
        {
            throw new JinjaException("the template runs too long");
        }
    }

    public void Step(StringBuilder output)
    {
        Spend(1);
        if (output.Length > MostCharacters)
        {
            throw new JinjaException("the template prints too much");
        }
    }

    public void EnterMacro()
    {
        if (++_macros > MostMacros)
        {
            throw new JinjaException("the macros call each other too deeply");
        }
    }

    public void LeaveMacro() => _macros--;
}

/// <summary>The names one scope sets, over those of the scopes around it.</summary>
internal sealed class JinjaFrame
{
    private readonly Dictionary<string, object?> _names = new(StringComparer.Ordinal);
    private readonly JinjaFrame? _outer;

    public JinjaFrame(JinjaRun run, JinjaFrame? outer) => (Run, _outer) = (run, outer);

    public JinjaRun Run { get; }

    public object? Find(string name)
    {
        for (var frame = this; frame is not null; frame = frame._outer)
        {
            if (frame._names.TryGetValue(name, out var value))
            {
                return value;
            }
        }

        return new JinjaUndefined(name);
    }

    public void Set(string name, object? value) => _names[name] = value;

    public void Clear() => _names.Clear();
}
