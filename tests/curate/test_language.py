"""Languages of questions: foreign ones are found, English ones of every kind stay."""

# ruff: noqa: RUF001
import pytest

from limo_ray.curate.language import foreign, known

FOREIGN = [
    ("es", "Encuentra el valor de $x$ si la suma de los ángulos es igual a $90^\\circ$."),
    ("es", "Un tren sale de la estacion a las 8 y viaja a 60 kilometros por hora."),
    ("fr", "Trouver tous les entiers naturels $n$ tels que $n^2+1$ divise $n+1$."),
    ("fr", "Combien de nombres premiers y a-t-il entre 1 et 100 ?"),
    ("de", "Bestimme alle natürlichen Zahlen $n$, für die $n^2$ gerade ist."),
    ("pt", "Quantas maneiras existem de escolher três alunos?"),
    ("vi", "Cho tam giác $ABC$ có góc $A$ bằng $60^\\circ$. Tính $BC$."),
    ("pl", "Znajdź wszystkie liczby całkowite spełniające równanie $x^2=y$."),
    ("it", "Trovare tutti i numeri interi positivi tali che $a+b=c$."),
    ("tr", "Aşağıdaki denklemin tüm çözümlerini bulunuz: $x=1$"),
    ("ru", "Найдите все натуральные числа $n$, для которых это верно."),
    ("zh", "计算：$\\frac{2}{37}+\\frac{20}{37}$"),
    ("zh", "已知AB=5cm，求三角形ABC的面积。"),
    ("ja", "三角形の面積を求めよ。"),
]
ENGLISH = [
    "Simplify $\\frac{1}{2}$.",
    "Compute $\\dbinom{5}{3}$.",
    "$\\sin 60^\\circ = $",
    "Solve for $x$: $x+1=2$",
    "Factor completely over the integers: $x^2-1$",
    "Rationalize the denominator of $\\frac{1}{\\sqrt 2}$.",
    "Convert kilometers to meters: $5$ km",
    "Determine minimum possible perimeter of triangle $ABC$",
    "Andre, Marie, Jose, Pablo, Juan, Garcia",
    "Real numbers $a,b$ satisfy $a+b=1$, $ab=-1$",
    "Señor Núñez buys 3 piñatas from the café. How many has he?",
    "Find the 汉字 with the number 三.",
    "Let α, β, γ be the angles of △ABC. Find α + β.",
    "",
]


@pytest.mark.parametrize("language, question", FOREIGN)
def test_foreign_questions(language, question):
    code = foreign(question, ("en",))
    assert code is not None
    if len(question) > 40:
        assert code == language
    assert foreign(question, ("en", language)) is None


@pytest.mark.parametrize("question", ENGLISH)
def test_english_questions(question):
    assert foreign(question, ("en",)) is None


def test_english_can_be_foreign_too():
    question = "Natalia sold clips to 48 of her friends. How many clips did she sell?"
    assert foreign(question, ("zh",)) == "en"
    assert foreign("Compute $x$.", ("zh",)) is None
    assert {"en", "zh", "ru", "fr"} <= known()
